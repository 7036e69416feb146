// Loaded between RequireJS and html-manager, on pages with widgets. Everything they ask for is in
// this book: nothing is fetched from a content delivery network.
(() => {
  const here = new URL(document.documentElement.dataset.content_root || "./", document.baseURI);
  const vendor = new URL("_static/vendor/", here).href;
  requirejs.config({
    paths: {
      anywidget: `${vendor}anywidget`,
      // The parts of html-manager look for their fonts beside the address that they think is theirs.
      "@jupyter-widgets": `${vendor}html-manager`,
      "@jupyter-widgets/html-manager/dist": `${vendor}html-manager`,
    },
  });
  // html-manager speaks to MathJax 2 (Hub.Queue); the pages have MathJax 3.
  const loaded = new Promise((resolve) => window.addEventListener("load", resolve));
  const ready = loaded.then(() => window.MathJax?.startup?.promise);
  const run = (call) => (typeof call === "function" ? call() : MathJax.typesetPromise([call.at(-1)]));
  const hub = { Config: () => {}, Queue: (...calls) => ready.then(() => calls.forEach(run)) };
  const bridge = () => { if (window.MathJax && !window.MathJax.Hub) window.MathJax.Hub = hub; };
  bridge();
  loaded.then(bridge);
})();
