"""Several functions that take turns on one processor, in an order that is always the same.

In: functions, each of which calls `hand_over` where another may go on, and `wait_for_all` at a
barrier. They run as Python threads, of which one alone moves at any time: the recorder of kernels
(`pictures.threads`) plays the threads of a block so, with their races and barriers. Chapter
07a.
"""

import threading
from collections.abc import Callable, Sequence

BARRIERS = 100  # that a function may come to; more, and its loop does not end


class TurnsError(ValueError):
    """Not everyone came to the barrier."""


class _EndedError(BaseException):
    """Unwinds a player that will not be called again."""


class _Player:
    """One function, and where it stands."""

    def __init__(self, body: Callable[[], None]) -> None:
        self.body = body
        self.go = threading.Semaphore(0)
        self.waiting = False  # at the barrier
        self.done = False
        self.error: BaseException | None = None


class Turns:
    """Runs functions by turns: one after another until each hands over, round and round."""

    def __init__(self) -> None:
        self._back = threading.Semaphore(0)
        self._now: _Player | None = None
        self._ending = False
        self._barriers = 0  # that have been opened

    def play(self, bodies: Sequence[Callable[[], None]], before: Callable[[int], None]) -> None:
        """Run all functions to their ends.

        Args:
            bodies: the functions.
            before: called with a function's number whenever its turn begins.

        Raises:
            TurnsError: some wait at a barrier, others have ended without coming there; or they
                come to barriers for ever.
        """
        self._barriers = 0
        players = [_Player(body) for body in bodies]
        threads = [threading.Thread(target=self._run, args=[p], daemon=True) for p in players]
        for thread in threads:
            thread.start()
        try:
            while not all(p.done for p in players):
                for i, player in enumerate(players):
                    if not player.done and not player.waiting:
                        before(i)
                        self._turn(player)
                        if player.error is not None:
                            raise player.error
                self._open_barrier(players)
        finally:
            self._ending = True
            for player in players:
                if not player.done:
                    self._turn(player)
            for thread in threads:
                thread.join()
            self._ending, self._now = False, None

    def hand_over(self) -> None:
        """Called by a function: let the others have their turns, then go on."""
        player = self._now
        assert player is not None  # only functions that `play` runs call this
        self._back.release()
        player.go.acquire()
        if self._ending:
            raise _EndedError

    def wait_for_all(self) -> None:
        """Called by a function: go on when all others have come here too."""
        assert self._now is not None
        self._now.waiting = True
        self.hand_over()

    def _open_barrier(self, players: Sequence[_Player]) -> None:
        waiting = [p for p in players if p.waiting]
        if not waiting or any(not (p.waiting or p.done) for p in players):
            return
        if len(waiting) < len(players):
            raise TurnsError(
                f"{len(waiting)} of {len(players)} threads of a block wait at syncthreads(), and "
                "the others have ended: all threads must come to a barrier, so put it outside of "
                "every `if`, and let no guard return before it"
            )
        self._barriers += 1
        if self._barriers > BARRIERS:
            raise TurnsError(f"the threads have come to {BARRIERS} barriers: does a loop not end?")
        for player in waiting:
            player.waiting = False

    def _turn(self, player: _Player) -> None:
        self._now = player
        player.go.release()
        self._back.acquire()

    def _run(self, player: _Player) -> None:
        player.go.acquire()
        try:
            if not self._ending:
                player.body()
        except _EndedError:
            pass  # `play` has ended; nobody is interested in the rest
        except BaseException as error:  # `play` raises it, in its own thread
            player.error = error
        player.done = True
        self._back.release()
