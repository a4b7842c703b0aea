"""LaTeX: what is written, read back as text; and every file compiled, where a compiler is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from synthetic import make_study

from flatmin.results import latex
from flatmin.results.block import Block
from flatmin.results.blocks import layout
from flatmin.results.claim_spec import load_claims
from flatmin.results.claims import judge
from flatmin.results.inputs import measured
from flatmin.results.paper_tables import paper_files
from flatmin.results.tables import tex

ROOT = Path(__file__).parents[2]
COMMITTED = sorted(ROOT.glob("results/**/tables/*.tex"))
COMPILERS = ("pdflatex", "lualatex", "tectonic")
INSTALL = (
    "no LaTeX here: apt-get install --no-install-recommends "
    "texlive-latex-base texlive-latex-recommended texlive-science (siunitx)"
)

BLOCK = Block(
    "A caption: 95% & more_or_less",
    ("dataset", "model", "sgd_x", "sam", "difference", "words", "count"),
    (
        ("a_1", "m", "68.89 ± 11.14 (3)", "-6.89 ± 0.14 (5)§", "+3.10 [-0.20, +6.00], p < 0.001 (5)", "–", "1,234"),
        ("a_2", "m", "8.9 (1)", "–", "-0.50 [-1.00, +0.00], p = 0.0050 (5, sign-flip)", "baseline", "12"),
        ("a_3", "m", "–", "+0.5", "baseline", "sgd-2x", "7"),
        ("a_4", "m", "2.1 ± <0.1 (5)", "2.77 ± 0.03 std (20)", "1.50x (3); 0 diverged, 0 missing", "", "–"),
    ),
    2,
    notes=("Note with 100% & [brackets].",),
)


def plain(text: str) -> str:
    """What a reader sees of a cell."""
    text = re.sub(r"\\multicolumn\{2\}\{c\}\{(.*)\}$", r"\1", text.strip())
    text = re.sub(r"\\num\{([^}]*)\}", r"\1", text)
    for written, seen in (
        (r"\pm", "±"), (r"$<$", "<"), (r"$\dagger$", "†"), (r"$\ddagger$", "‡"), (r"\S{}", "§"), ("$-$", "-"),
        ("{[}", "["), ("{]}", "]"), (r"\_", "_"), (r"\%", "%"), (r"\&", "&"), ("$", ""),
    ):  # fmt: skip
        text = text.replace(written, seen)
    return re.sub(r"\s+", " ", text.replace("--", "–")).strip()


def cells(line: str, header: str) -> list[str]:
    """A line of a tabular as the cells of its block: a mean and its n, which stand in two columns, are one cell."""
    single = iter(re.split(r"(?<!\\)&", line.removesuffix(r"\\")))
    found = []
    for name in re.split(r"(?<!\\)&", header.removesuffix(r"\\")):
        first = next(single)
        double = "multicolumn" in name and "multicolumn" not in first
        found.append(plain(f"{first} {next(single)}" if double else first))
    return found


def tabular(text: str) -> tuple[str, list[list[str]]]:
    specification, body = re.search(r"\\begin\{tabular\}\{(.*)\}\n(.*)\\end\{tabular\}", text, re.DOTALL).groups()
    lines = [line.strip() for line in body.splitlines() if line.strip().endswith(r"\\")]
    return specification, [cells(line, lines[0]) for line in lines]


def test_every_cell_survives() -> None:
    _, lines = tabular(latex.table(BLOCK))
    expected = [[text.replace(",", "") if text == "1,234" else text for text in row] for row in BLOCK.rows]
    assert lines == [[*BLOCK.header], *expected]


def test_columns_of_means_are_aligned_by_siunitx_with_room_for_the_widest() -> None:
    specification, _ = tabular(latex.table(BLOCK))
    first, second = r"S[table-format = 2.2(4)]@{\,}l", r"S[table-format = +1.2(2)]@{\,}l"
    assert specification == "ll" + first + second + "rr" + r"S[table-format = 2]@{\,}l"


def test_numbers_in_a_text_are_set_by_siunitx_and_names_are_not() -> None:
    written = latex.numbers("+3.10 [-0.20, +6.00], p < 0.001 (5), sgd-2x, digits-noise60, 1.50x")
    assert written == (
        r"\num{+3.10} {[}\num{-0.20}, \num{+6.00}{]}, p $<$ \num{0.001} (\num{5}), sgd-2x, digits-noise60, 1.50x"
    )


def test_special_characters() -> None:
    assert latex.escape("a_b & 5% -1.5 ± 2 <") == r"a\_b \& 5\% $-$1.5 $\pm$ 2 $<$"
    assert latex.escape("sgd-2x \\ {x}") == r"sgd-2x \textbackslash{} \{x\}"
    assert latex.escape("SAM − SGD §") == r"SAM $-$ SGD \S{}"


def test_a_table_prints_in_latex_what_it_prints_elsewhere() -> None:
    runs, tables = make_study()
    laid = layout(measured(runs), tables["quick"])
    parts = re.findall(r"\\begin\{table\}.*?\\end\{table\}", tex(laid), re.DOTALL)
    for block, part in zip(laid.blocks, parts, strict=True):
        assert tabular(part)[1] == [[*block.header], *map(list, block.rows)]


def test_a_long_table_is_set_smaller() -> None:
    rows = tuple((str(i), "1.0 (5)") for i in range(latex.LONGEST + 1))
    assert r"\scriptsize" in latex.table(Block("", ("a", "b"), rows, 1))
    assert r"\scriptsize" not in latex.table(Block("", ("a", "b"), rows[:-1], 1))


@pytest.mark.slow
def test_golden_tables_compile(tmp_path: Path, claims_path: Path) -> None:
    runs, tables = make_study()
    finished = measured(runs)
    texts = {name: tex(layout(finished, table)) for name, table in tables.items()}
    texts |= paper_files(judge(load_claims(claims_path), finished, tables), tables, finished)
    texts["block"] = latex.document([BLOCK], ["a remark: 50% [sic]"])
    texts["empty"] = tex(layout(finished.head(0), tables["quick"]))
    for name, text in texts.items():
        if not name.endswith((".csv", ".md")):
            said = compiles(text, tmp_path / name.removesuffix(".tex"))
            assert not re.findall(r"Overfull \\hbox \((?:[2-9]\d|\d{3,})", said), said[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_committed_tables_compile(path: Path, tmp_path: Path) -> None:
    compiles(path.read_text(encoding="utf-8"), tmp_path)


def compiles(text: str, folder: Path) -> str:
    """Compile a file in a document that loads what it asks for, and return what the compiler said."""
    compiler = next((name for name in COMPILERS if shutil.which(name)), None)
    if compiler is None:
        pytest.skip(INSTALL)
    needed = re.search(r"\\usepackage\{([^}]*)\}", text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.tex").write_text(text, encoding="utf-8")
    (folder / "main.tex").write_text(
        f"\\documentclass{{article}}\n\\usepackage{{{needed[1] if needed else 'booktabs'}}}\n"
        "\\begin{document}\n\\input{table}\n\\end{document}\n"
    )
    flags = [] if compiler == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([compiler, *flags, "main.tex"], cwd=folder, capture_output=True, check=False)
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    if compiler == "pdflatex" and "siunitx.sty' not found" in said:
        pytest.skip(INSTALL)
    assert done.returncode == 0, said[-3000:]
    assert (folder / "main.pdf").stat().st_size > 1000
    return said
