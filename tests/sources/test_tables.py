"""Tables that people write: separators, encodings, blank lines, quotes, and the numbers of lines in messages."""

import pytest

from fedsynth.data.manifest import SetError
from fedsynth.sources._tables import cases_of, meant, text_table

NAMES = ["image", "label"]
ROWS = [["a.png", "x"], ["b.png", "y"]]


def read(folder, content, name="table.csv", columns=NAMES):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return text_table(path, columns, "it should be a table")


@pytest.mark.parametrize(
    "content",
    [
        "image,label\na.png,x\nb.png,y\n",
        "image,label\na.png,x\nb.png,y",  # no last line end
        "image,label\r\na.png,x\r\nb.png,y\r\n",
        "\ufeffimage,label\na.png,x\nb.png,y\n",  # Excel's mark
        "image,label\na.png,x,\nb.png,y,\n",  # a comma behind each row
        "image,label,,\na.png,x,,\nb.png,y,,\n",
        "\n\nimage,label\n\na.png,x\n,\n  \nb.png,y\n\n",
        "image;label\na.png;x\nb.png;y\n",  # Excel where commas are decimal
        "image\tlabel\na.png\tx\nb.png\ty\n",
        " image , label \na.png ,x\nb.png, y\n",
        'image, label\na.png, "x"\n"b.png", y\n',
        '"image","label"\n"a.png","x"\n"b.png","y"\n',
    ],
)
def test_a_table_is_read_however_it_was_written(tmp_path, content):
    table = read(tmp_path, content)
    assert list(table.columns) == NAMES
    assert table.to_numpy().tolist() == ROWS


def test_cells_may_hold_separators_quotes_and_line_ends(tmp_path):
    table = read(tmp_path, 'image,label\n"a, b.png","says ""x"""\n"c\nd.png",y\n')
    assert table.to_numpy().tolist() == [["a, b.png", 'says "x"'], ["c\nd.png", "y"]]


def test_the_index_is_the_line_in_the_file(tmp_path):
    table = read(tmp_path, '\nimage,label\n\n\na.png,x\n"b\nb.png",y\n\nc.png,z\n')
    assert list(table.index) == [5, 6, 9]


def test_a_tsv_is_parted_by_tabs_whatever_else_its_header_holds(tmp_path):
    table = read(tmp_path, "image\tlabel\ta,b,c\na.png\tx\t1,2\n", "table.tsv", ["a,b,c"])
    assert table["a,b,c"].tolist() == ["1,2"]


def test_text_is_not_taken_for_numbers_or_for_nothing(tmp_path):
    table = read(tmp_path, "image,label\n007,NA\n1e5,nan\n", columns=[])
    assert table.to_numpy().tolist() == [["007", "NA"], ["1e5", "nan"]]


def test_columns_without_a_name_have_a_number(tmp_path):
    assert list(read(tmp_path, ",image,label\n0,a.png,x\n").columns) == ["column 1", *NAMES]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image,label\n\na.png\n", r"line 3 has 1 cells, the header names 2 columns"),
        ("image,label\na.png,x,y\n", r"line 2 has 3 cells, the header names 2 columns; .* in quotes"),
        ("image,label,image\na,b,c\n", "has two columns 'image'"),
        ('image,label\na.png,"x\n', r"line 2: .*look at its quotes"),
        ("image,label\n", "has no rows"),
        ("image,lable\na,b\n", r"lacks the columns \['label'\]; it has \['image', 'lable'\]"),
        ("", "is empty; it should be a table"),
        ("image,label\na.png,x\nMüller,y\n".encode("latin-1"), "not UTF-8 .line 3 has the byte 0xfc"),
        ("image,label\na.png,x\n".encode("utf-16"), "it is UTF-16.*save it as CSV UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, content, said):
    with pytest.raises(SetError, match=rf"table\.csv.*{said}"):
        read(tmp_path, content)


def test_a_table_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SetError, match=r"none\.csv is not there; it should be"):
        text_table(tmp_path / "none.csv", [], "it should be a table")


@pytest.mark.parametrize(
    ("value", "there", "found"),
    [
        (1, ["0", "1", "01"], ["1"]),
        (1, ["0", "01", "2"], ["01"]),
        (1.0, ["1"], ["1"]),
        ("1.0", ["1", "2"], ["1"]),
        (7, ["07", "007"], ["07", "007"]),  # two that could be meant
        ("x", ["X"], []),
        (None, ["", "x"], [""]),
        (True, ["Yes", "no"], ["Yes"]),
        (False, ["off", "on"], ["off"]),
        (12345678901234567890, ["12345678901234567891"], []),
        ("a\u0308", ["\u00e4"], ["\u00e4"]),
    ],
)
def test_numbers_and_text_are_alike(value, there, found):
    assert meant(value, there) == found


def test_a_table_of_cases_has_one_row_for_each(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("case,label,split,other\n\na,x,Training,1\nb,y,,2\na,x,train,3\n")
    found = cases_of(path, ("image_id", "case"))
    assert found[["label", "split"]].to_dict("index") == {
        "a": {"label": "x", "split": "train"}, "b": {"label": "y", "split": ""},
    }  # fmt: skip
    path.write_text("case,label\n\na,x\na,y\n")
    with pytest.raises(SetError, match="line 4 says something else of its case"):
        cases_of(path, ("image_id", "case"))
