"""Pictures: detections over an image, curves of a run, what every chapter shows."""
