"""The errors that a user can fix, and the one boundary that prints them.

The library raises `BiopsyError`; `run` prints its sentence and sets the exit code, so that nobody who mistyped a
parameter has to read a traceback.
"""

import errno
import fcntl
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

STOPPED = 130  # exit status after Ctrl-C, as of a shell
NO_MEMORY = (
    "there is no memory left, or a limit (ulimit -v) is reached. Close other programs, raise the limit or use a larger "
    "machine."
)
NO_THREAD = (
    "no thread can be started: a limit on processes or memory (ulimit -u, -v, or a container's) is reached. Raise it, "
    "or close other programs."
)


class BiopsyError(Exception):
    """What went wrong, where (file, row, value) and the way out, in one sentence or two."""

    exit_code = 1


class ParamsError(BiopsyError):
    """A parameter that is unknown, of the wrong type, out of range or in contradiction with another."""

    exit_code = 2


class DataError(BiopsyError):
    """A table, an image or a split that cannot be used as it is."""

    exit_code = 3


class SourceError(BiopsyError):
    """A download, an archive or a weights file that is not available, or cannot be trusted."""

    exit_code = 4


class UnsuitableModelError(SourceError):
    """A sound model that cannot do what is asked of it, such as to answer from images alone."""


class MachineError(BiopsyError):
    """The machine ran out of something: disk, memory, permission."""

    exit_code = 5


def nearest(value: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Name the known value nearest to `value`, as the end of a sentence.

    Parameters
    ----------
    value, known
        What was given, and what it may be.
    cutoff
        The least likeness, 0 to 1, of a value that is named.

    Returns
    -------
    str
        `" Did you mean 'adam'?"`, or an empty string where nothing is near.
    """
    found = get_close_matches(str(value).lower(), {k.lower(): k for k in known}, n=1, cutoff=cutoff)
    return f" Did you mean '{next(k for k in known if k.lower() == found[0])}'?" if found else ""


def some(items: Iterable[object], limit: int = 5) -> str:
    """List the first `limit` items and count the rest: `a, b, c and 12 more`."""
    listed = [str(item) for item in items]
    rest = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {rest} more" if rest > 0 else "")


def warn(sentence: str) -> None:
    """Print what the user should know, although the work goes on."""
    print(f"warning: {sentence}", file=sys.stderr, flush=True)


def reason_of(error: BaseException, most: int = 200) -> str:
    """Return a library's error message in one line of at most `most` letters; its class where it has none."""
    return " ".join(str(error).split())[:most] or type(error).__name__


_NAME_YOURSELF = ": `git config --global user.name NAME; git config --global user.email ADDRESS`"  # DVC says no more


def reason_in(log: str) -> str:
    """Find why a command failed in what it printed: the first error (ours comes before DVC's), else the last line.

    Returns
    -------
    str
        Without `error: `; empty where nothing was printed.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    told = [line.partition(": ")[2] for line in lines if line.lower().startswith("error: ")]
    reason = (told or lines[-1:] or [""])[0]
    return reason + _NAME_YOURSELF if "Git user name and email" in reason else reason


def run(main: Callable[[], None], interrupted: str = "Run `dvc repro` again to continue.") -> None:
    """Run `main`; print an error that the user can fix as one sentence and exit with its family's code.

    Tracebacks of such errors show with `BIOPSY_TRACEBACK=1`. Anything else is a defect of ours and keeps its traceback.

    Parameters
    ----------
    main
        The stage or command.
    interrupted
        How to continue after Ctrl-C or SIGTERM, where `main` raises a KeyboardInterrupt without a message.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    _open_standard_streams()
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        _leave(f"stopped: {str(stop) or interrupted}", STOPPED)
    except BiopsyError as error:
        _leave(f"error: {error}", error.exit_code)
    except BrokenPipeError:  # `| head` has read enough; Python would complain once more when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MemoryError:
        _leave(f"error: {NO_MEMORY}", MachineError.exit_code)
    except (ImportError, OSError, RuntimeError) as error:
        sentence = _sentence_of(error)
        if sentence is None:
            raise
        _leave(f"error: {sentence}", MachineError.exit_code)


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Put the file's name into an error of the operating system: that of a full disk has none.

    An error about `temporary`, a name that the user does not know, gets the name `path`.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename == str(temporary):
            error.filename = str(path)
        raise


def _open_standard_streams() -> None:
    """Open standard streams that cron or `>&-` closed: else writing fails, or another file takes their place."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
            usable = mode == "r" or access != os.O_RDONLY
        except OSError:
            usable = False
        if not usable:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def _sentence_of(error: Exception) -> str | None:
    """Say what the user can do about an error of the machine, or return None."""
    if isinstance(error, ImportError):
        return _import_sentence(error)
    if isinstance(error, OSError):
        return _machine_sentence(error)
    return NO_THREAD if "can't start new thread" in str(error) else None


def _import_sentence(error: ImportError) -> str | None:
    """Say what the user can do about a package that cannot be loaded, or return None."""
    text = str(error)
    if any(words in text for words in ("failed to map segment", "Cannot allocate memory", "memory protection")):
        return NO_MEMORY
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] not in ("biopsy", "stages"):
        return (
            f"{sys.executable} has no package {error.name.split('.')[0]}. Activate the project's environment "
            "(`. .venv/bin/activate`; `make .venv/run` makes it), or install the pipeline's packages: "
            "`pip install -e '.[pipeline]'` in the project's folder."
        )
    return None


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _leave(sentence: str, code: int) -> None:
    if os.environ.get("BIOPSY_TRACEBACK"):
        traceback.print_exc()
    sys.stdout.flush()
    _end_bars()
    print(sentence, file=sys.stderr, flush=True)
    sys.exit(code)


def _end_bars() -> None:
    """End the line of each open progress bar, so that the sentence does not stand behind it."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", ())):
            bar.close()


def _machine_sentence(error: OSError) -> str | None:
    """Put an operating-system error that the user can fix in words, or return None."""
    where = error.filename or "the output"
    code = error.errno
    if code is None and ("No space left" in str(error) or "requested and" in str(error)):  # of h5py and NumPy
        code = errno.ENOSPC
    sentence = _SENTENCES.get(code or 0)
    return sentence.format(where=where) if sentence else None


_AGAIN = ", then run the same command again."
_SENTENCES = {
    errno.ENOSPC: "no space left on the disk while writing {where}. Free some space" + _AGAIN,
    errno.EDQUOT: "your share of the disk (quota) is used up while writing {where}. Free some space" + _AGAIN,
    errno.EFBIG: "{where} would be larger than a file may be here. Raise the limit (ulimit -f)" + _AGAIN,
    errno.ENOMEM: NO_MEMORY,
    errno.ENOTDIR: "{where}: a part of this path is a file, but a folder is needed.",
    errno.EEXIST: "{where} exists already, and is in the way. Rename it" + _AGAIN,
    errno.EISDIR: "{where} is a folder, but a file is needed.",
    errno.ELOOP: "{where} is a link that leads back to itself. Delete it" + _AGAIN,
    errno.ENAMETOOLONG: "{where}: this name is too long for the disk. Choose a shorter one.",
    errno.EROFS: "{where} lies on a read-only file system. Make it writable" + _AGAIN,
    errno.EACCES: "no permission for {where}. Change its owner or mode (chmod u+rw)" + _AGAIN,
    errno.EPERM: "no permission for {where}. Change its owner or mode (chmod u+rw)" + _AGAIN,
    errno.EMFILE: "too many open files. Raise the limit (ulimit -n 4096)" + _AGAIN,
    errno.ENFILE: "too many open files. Raise the limit (ulimit -n 4096)" + _AGAIN,
}
