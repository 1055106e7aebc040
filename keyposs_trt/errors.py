"""Every error the toolkit raises on purpose. One clear sentence, with the remedy in it.

KeypossError                exit code 1
├── UsageError              exit code 2: an argument that makes no sense
├── InputError              an image, video, folder or camera that cannot be read
├── OutputError             a result that cannot be written
├── ModelError              a model, engine, checkpoint or manifest that is corrupt, foreign or of another version
├── BackendError            a runtime that is missing or cannot run here
├── BuildError              an engine that could not be built as asked
└── DataError               training or calibration data that is missing or wrong
"""


class KeypossError(Exception):
    """Base of all errors of this package; ``str(error)`` is a full sentence for the user."""

    exit_code = 1


class UsageError(KeypossError):
    """An argument that makes no sense, found before any work is done."""

    exit_code = 2


class InputError(KeypossError):
    """An image, video, folder or camera that cannot be read."""


class OutputError(KeypossError):
    """A result that cannot be written."""


class ModelError(KeypossError):
    """A model, engine, checkpoint or manifest that is corrupt, foreign or of another version."""


class BackendError(KeypossError):
    """A runtime that is missing or cannot run on this machine."""


class BuildError(KeypossError):
    """An engine that could not be built as asked."""


class DataError(KeypossError):
    """Training or calibration data that is missing or wrong."""
