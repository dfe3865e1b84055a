"""The report's page on paper; its layout is `@page` and `@media print` in `templates/cifar_report/style.css`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cifar_report.records.files import atomic_file


def what_is_missing() -> str:
    """What has to be installed before a PDF can be made; an empty text if nothing."""
    try:
        import weasyprint  # noqa: F401
    except ImportError:
        return "pip install weasyprint"
    except OSError:  # it is there, but a library that it loads is not
        return (
            "WeasyPrint needs the shared library Pango, which Debian and Ubuntu have in the package libpango-1.0-0 "
            "with libpangoft2-1.0-0, Fedora in pango, Homebrew in pango"
        )
    return ""


def write_pdf(page: str, target: Path) -> None:
    """The page on paper, made by WeasyPrint; unless the PDF is that of this very page already, and undamaged."""
    mark, source = target.with_name(".report.pdf.sha256"), page.encode()
    if target.is_file() and mark.is_file() and mark.read_text() == _digest(source, target):
        return
    try:
        target.unlink(missing_ok=True)  # one of another page would contradict this one
    except PermissionError:  # Windows deletes no open file
        print(f"no PDF was made: {target} is open in another program; close it there and write the report again")
        return
    if missing := what_is_missing():
        print(f"no PDF was made: {missing}")
        return
    import weasyprint

    page = re.sub(r"<a href=\"(?!#|https?:)[^>]*>(.*?)</a>", r"\1", page, flags=re.DOTALL)  # paper has no files
    try:
        with atomic_file(target) as temporary:
            weasyprint.HTML(string=page).write_pdf(temporary, pdf_tags=True)  # for screen readers
    except Exception as error:  # the page is there, and worth more than no report
        print(f"no PDF was made: WeasyPrint failed with {type(error).__name__}: {error}")
        return
    mark.write_text(_digest(source, target))


def _digest(page: bytes, pdf: Path) -> str:
    return hashlib.sha256(page + pdf.read_bytes()).hexdigest()
