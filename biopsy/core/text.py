"""Words in tables as people spell them (columns, labels, ids, marks of a missing value), compared; and counts."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from textwrap import wrap

# Marks of a missing value, in small letters and without brackets; the only such list of the project.
MISSING = frozenset(
    {"", "na", "n/a", "n.a.", "nan", "nat", "null", "none", "missing", "unknown", "?", ".", "-", "--", "'--"}
)
MISSING |= {f"not {word}" for word in ("applicable", "available", "collected", "evaluated", "recorded", "reported")}
MISSING |= {"#n/a", "#value!", "#ref!", "#div/0!", "#name?", "#null!", "#num!"}  # spreadsheets' own
QUOTES = " \"'\u2018\u2019\u201c\u201d"  # around a path, as Windows copies it
DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"))
LINE = 26  # letters in a line of a name in a picture
# Letters of other scripts that look like Latin ones and get into an id unnoticed.
LOOKALIKES = str.maketrans("авекмнорстухіјѕαβεζηικμνορτυχ", "abekmhopctyxijsabezhikmnoptux")
MONTH = r"(jan|feb|mar|mär|mrz|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-z]*"  # English and German
# What a spreadsheet makes of an id or a label: a number in short form, one of more than 15 digits, a date.
CHANGED = re.compile(
    rf"\d([.,]\d+)?e\+\d{{1,3}}|\d{{10,}}00000([.,]0+)?|\d{{1,2}}(-|\. ?){MONTH}(-\d+)?|{MONTH}-\d+"
    r"|\d+-\d+-\d+ 00:00(:00)?"
)
BARCODE = re.compile(r"(tcga-\w{2}-\w{4})-.+")  # a patient of TCGA, then one of its samples or slides
# Punctuation that may tell two labels apart (ER+ and ER-, 1 and -1, 1.5 and 15), then all other.
_PUNCTUATION = re.compile(r"((?<=\d)[-.,/:](?=\d)|^-(?=\d)|-(?=\W*$)|[+<>\u2264\u2265=])|[\W_]")


def as_text(name: str) -> str:
    """Write a name that is not valid text so that UTF-8 can hold it: `\\udce9` for a lone byte."""
    return name.encode("utf-8", "backslashreplace").decode()


def count(n: float, name: str) -> str:
    """Write '1 case' or '1,200 cases'."""
    return f"{n:,.0f} {name}{'' if n == 1 else 's'}"


def drawn(name: str) -> str:
    """Write a name for a picture: at most three lines, `$` escaped, between which Matplotlib reads a formula."""
    return "\n".join(wrap(name, LINE, max_lines=3, placeholder="…")).replace("$", r"\$")


def isolated(name: str) -> str:
    """Isolate a name in Hebrew or Arabic, which would reverse the numbers beside it: 'a: 1' shown as '1 :a'."""
    turns = not name.isascii() and any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name)
    return f"\u2068{name}\u2069" if turns else name


def plain(text: str) -> str:
    """Reduce a label to letters, digits and signs: `Ductal_Carcinoma` equals `ductal carcinoma`, `1` equals `1.0`.

    Signs stay, so that `ER+` and `ER-`, `1` and `-1`, `1.5` and `15` differ. A label of only punctuation stays.
    """
    folded = re.sub(r"\s+", "", fold(text).translate(DASHES))
    folded = re.sub(r"^(-?\d+)[.,]0+$", r"\1", folded)
    return _PUNCTUATION.sub(r"\1", folded) or folded


def look_up(words: Mapping[str, str], text: str) -> str | None:
    """Look a cell up in a map of the parameters: exactly, else by `plain` (YAML turns TRUE into `True`)."""
    if text in words or not words:
        return words.get(text)
    return {plain(key): value for key, value in words.items()}.get(plain(text))


def is_missing(text: str) -> bool:
    """Tell whether a cell stands for a missing value: `NA`, `[Not Available]`, `#N/A`, `<NA>`."""
    return text.strip().casefold().strip("[]()<>") in MISSING


def fold(text: str) -> str:
    """Return a text without differences in letter case, Unicode form (NFC, NFD) and invisible characters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", seen(text)).casefold())


def seen(text: str) -> str:
    """Remove invisible characters, such as the mark that Windows puts before a copied path."""
    if text.isascii():  # it has none
        return text
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cf")


def read_magnification(text: str) -> str | None:
    """Return `40` for `40X`, `x40`, `40`, `40.0` or `40,0`, an empty string for an empty one, else None."""
    if not text:
        return ""
    found = re.fullmatch(r"[xX\u00d7]?\s*([0-9]{1,4}(?:\.[0-9]{1,6}|,[0-9]{1,2})?)\s*[xX\u00d7]?", text)
    number = float(found[1].replace(",", ".")) if found else 0
    return f"{number:g}" if number > 0 else None


def id_key(text: str) -> str:
    """Return the key that identifies a case or slide.

    Letter case, Unicode form (full-width digits, kinds of dashes), blanks and invisible characters do not count: `P01`,
    `p01` and ` P 01` have the same key. `007` and `7` have different keys, see `alike`.
    """
    compatible = unicodedata.normalize("NFKC", text.translate(DASHES))
    return re.sub(r"\s+", "", fold(compatible).replace("i\u0307", "i"))  # a Turkish capital I with its dot


def first_spellings(values: Iterable[str]) -> list[str]:
    """Write every id as the first id with the same `id_key` is written."""
    first: dict[str, str] = {}
    return [first.setdefault(id_key(value), value) for value in values]


def alike(values: Iterable[str], of_patients: bool = False) -> list[list[str]]:
    """Group ids that may mean the same.

    They differ only in punctuation, leading zeros, letters that look alike (a Cyrillic and a Latin P), or the form that
    spreadsheets give to numbers.

    Parameters
    ----------
    values
        The ids.
    of_patients
        TCGA's barcodes of several slides or samples of one patient may mean the same, too.

    Returns
    -------
    list of list of str
        Such as [["007", "7", "7.0"]]; both levels sorted. Ids that stand alone are left out.
    """
    groups: dict[str, set[str]] = {}
    for value in set(values):
        key = id_key(value)
        groups.setdefault(_rough(BARCODE.sub(r"\1", key) if of_patients else key), set()).add(value)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def changed(values: Iterable[str]) -> list[str]:
    """List the words that a spreadsheet seems to have changed, sorted: `1.23E+17`, `4-Mar`, `12345678901200000`."""
    return sorted({value for value in values if CHANGED.fullmatch(value.strip().casefold())})


def _rough(key: str) -> str:
    """Drop what a spreadsheet adds to an id (`1,200`, `7.0`, `1.2e+05`), leading zeros and the kind of punctuation."""
    key = key.translate(LOOKALIKES)
    if re.fullmatch(r"\d([.,]\d+)?e\+\d{1,2}", key):
        return f"{float(key.replace(',', '.')):.0f}"
    key = re.sub(r"^(\d{1,3})((,\d{3})+)$", lambda found: found[0].replace(",", ""), key)
    key = re.sub(r"(?<=[0-9])[.,]0+$", "", key)
    return re.sub(r"[\W_]+", "-", re.sub(r"(?<![0-9.])0+(?=[0-9])", "", key))
