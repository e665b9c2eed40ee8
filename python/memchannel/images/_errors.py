"""The error every part of this package raises for a module that cannot be loaded."""


class ImageError(ImportError):
    """A package or extension module cannot be loaded into this interpreter, with the reason.

    `name` is the module, `path` its file where there is one, as on any `ImportError`.
    """
