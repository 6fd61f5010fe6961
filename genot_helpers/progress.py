"""Progress bars: shown where somebody can see them."""

__all__ = ["progress_off"]


def progress_off(progress: bool | None) -> bool | None:
    """Translate ``progress`` into what tqdm calls ``disable``.

    Parameters
    ----------
    progress
        True: always show a bar; False: never; None: in a terminal or notebook only.
    """
    return None if progress is None else not progress
