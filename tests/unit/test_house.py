"""The house by its imports: a room uses only rooms below it, and no two files stand in a circle."""

import ast
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"
# From the lowest to the highest; what stands on one line is independent of each other. docs/house.md tells what each
# room is for.
FLOORS = [
    ["marquee", "errors", "seeding"],  # marquee/__init__.py: the version, and `load` when it is asked for
    ["files"],
    ["data"],
    ["metrics", "models"],
    ["config"],
    ["inference"],
    ["plots"],
    ["tasks"],
    ["tracking"],
    ["runs"],
    ["sweeps"],
    ["compare"],
    ["search"],
    ["apply"],
    ["serving"],
    ["cli"],
    ["__main__", "hydra_plugins"],
]
# The one way up: `marquee.load` is there for who imports the package, and imports nothing before.
ALLOWED = {("marquee", "marquee.apply.predictor")}


def modules():
    """File by dotted name."""
    found = {}
    for file in SOURCE.rglob("*.py"):
        name = ".".join(file.relative_to(SOURCE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = file
    return found


def imports(file, known):
    """The modules that a file imports, at its head, inside functions and for type checkers alike."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative imports hide where they lead"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in inner]
        found.update(name for name in names if name in known)
    return found


def graph():
    known = modules()
    return {name: imports(file, known) - {name} for name, file in known.items()}


def room(name):
    parts = name.split(".")
    return parts[0] if parts[0] == "hydra_plugins" or len(parts) == 1 else parts[1]


def circles(arrows):
    """Groups of files from each of which every other of the group can be reached (Tarjan 1972), by reachability."""
    reach = {name: set(targets) for name, targets in arrows.items()}
    for middle in reach:
        for targets in reach.values():
            if middle in targets:
                targets |= reach[middle]
    return sorted({tuple(sorted({name, *(t for t in reach[name] if name in reach[t])})) for name in reach
                   if name in reach[name]})  # fmt: skip


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == [("a", "b", "c")]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_the_reader_of_imports_sees_those_inside_functions_and_for_types(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("import marquee.a\nfrom marquee import b\ndef f():\n    from marquee.c.d import E\n"
                    "if TYPE_CHECKING:\n    import marquee.e as e\n")  # fmt: skip
    known = {"marquee", "marquee.a", "marquee.b", "marquee.c.d", "marquee.e"}
    assert imports(file, known) == known - {"marquee"}


def test_no_two_files_stand_in_a_circle():
    assert circles({name: {t for t in targets if (name, t) not in ALLOWED} for name, targets in graph().items()}) == []


def test_every_room_has_its_floor():
    assert {room(name) for name in modules()} == {name for floor in FLOORS for name in floor}


def test_a_room_uses_only_rooms_below_it():
    height = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    up = [
        f"{name} uses {target}"
        for name, targets in graph().items()
        for target in targets
        if room(name) != room(target) and height[room(target)] >= height[room(name)] and (name, target) not in ALLOWED
    ]
    assert up == []


def test_the_page_for_newcomers_names_every_room():
    page = (SOURCE.parent / "docs" / "house.md").read_text(encoding="utf-8")
    rooms = {room(name) for name in modules()} - {"marquee", "__main__"}
    assert [name for name in rooms if f"`{name}" not in page] == []
