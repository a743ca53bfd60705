"""What files of labels are made of, and good ones to be damaged."""

SPACES = [" ", "  ", "\t", "\n", "\r\n", "\r", "\n  ", "\u2028", "\ufeff"]
NASTY = [*"nan inf -1 1e999 1e-999 0x1 1_0 ٣ -.5 +".split(), "", "\0", "\ud800", "9" * 400, "1." + "0" * 400]
NUMBERS = [*"0 1 0.5 .25 1e-3 0.1 2 16 24".split(), *NASTY]

YOLO = [*NUMBERS, *SPACES, "#", "0 0.5 0.5 0.2 0.2"]
YAML = [*NUMBERS, *SPACES, *"names: nc: kpt_shape: train: path: [ ] { } , &a *a ' \" cat ~ null yes \\ud800".split()]
YAML += [
    ": ",
    "- ",
    "? ",
    "| ",
    "> ",
    "<<: ",
    "---\n",
    "...\n",
    "%YAML 9.9\n",
    "names: [cat, dog]\n",
    "kpt_shape: [17, 3]\n",
]
YAML += [*"2001-99-99 1:60:60 0b1 0o9".split(), "!!python/name:os.system ", "!!binary ", "!!set "]
JSON = [*NUMBERS, *SPACES, *'{ } [ ] , : " NaN -Infinity true null \\ud800'.split()]
JSON += [
    '"images":',
    '"annotations":',
    '"categories":',
    '"bbox":',
    "[2, 2, 8, 8]",
    '"segmentation": [[',
    '{"counts": [0]}',
]
JSON += ['{"id": 1, "name": "cat"}', '{"id": 1, "file_name": "a.png", "width": 24, "height": 16}', '"iscrowd": 1']
JSON += ['{"id": 1, "image_id": 1, "category_id": 1, "bbox": [']
_TAGS = "annotation size width height object name bndbox xmin xmax ymin ymax".split()
XML = [*NUMBERS, *SPACES, *(f"<{tag}>" for tag in _TAGS), *(f"</{tag}>" for tag in _TAGS), "<a b='", "<!--", "-->"]
XML += ["<!DOCTYPE a [<!ENTITY e 'x'>]>", "&e;", "&#0;", "&#xD800;", "<![CDATA[", "]]>"]
XML += ["<?xml version='1.0' encoding='evil'?>"]

GOOD_LABELS = b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.9 0.1 0.5 0.9\n"
GOOD_POSES = b"0 0.5 0.5 0.2 0.2 0.1 0.1 2 0.2 0.2 1\n"
GOOD_YAML = b"path: .\ntrain: images/train\nnames: {0: cat, 1: dog}\nkpt_shape: [17, 3]\n"
GOOD_JSON = b"""{"images": [{"id": 1, "file_name": "a.png", "width": 24, "height": 16}],
"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 8, 8],
"segmentation": [[1, 1, 9, 1, 1, 9]]}], "categories": [{"id": 1, "name": "cat"}]}"""
GOOD_XML = b"""<annotation><filename>a.png</filename><size><width>24</width><height>16</height></size><object>
<name>cat</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>8</xmax><ymax>8</ymax></bndbox></object></annotation>"""

NAMES = """data.yaml images/train/a.png labels/train/a.txt train/a.png train/a.txt annotations/instances_train.json
train/_annotations.coco.json Annotations/a.xml JPEGImages/a.png ImageSets/Main/train.txt obj.data obj.names train.txt
classes.txt a.xml a.png masks/train/a.png labels/train/b.txt b/c/train/images/a.jpg""".split()
"""Where files lie that one format or another looks for."""
