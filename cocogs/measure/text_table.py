"""Tables for the terminal that show every figure, however narrow the terminal is."""

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

GAP = 3  # columns that rich's frame takes beside each cell


def print_table(
    heads: list[str], rows: list[list[str]], console: Console, last_is_mean: bool = False
) -> None:
    """Print a table. Where it is wider than the console, print a block of lines for each row instead.

    Cells are never shortened or broken. Headings may break between words.

    Args:
        heads: of the columns; the first one names the rows.
        rows: one cell per heading each.
        last_is_mean: set the last row apart.
    """
    columns = zip(heads, *rows, strict=True)
    widths = [max(map(cell_len, [*head.split(), *cells]), default=0) for head, *cells in columns]
    if sum(widths) + GAP * len(widths) + 1 > console.width:
        _print_blocks(heads, rows, console)
        return
    table = Table()
    for head, width in zip(heads, widths, strict=True):
        table.add_column(head, min_width=width)
    for index, cells in enumerate(rows):
        if last_is_mean and index == len(rows) - 1:
            table.add_section()
        table.add_row(*cells)
    console.print(table, soft_wrap=False)


def _print_blocks(heads: list[str], rows: list[list[str]], console: Console) -> None:
    """Each row as its name and, indented, a line `heading: value` per figure; empty cells are left out."""
    for name, *cells in rows:
        console.print(name)
        for head, cell in zip(heads[1:], cells, strict=True):
            if cell:
                console.print(f"  {head}: {cell}")
