"""docs/metrics.md and lsvd-alerts.yml know the metrics that there are, and the
text is what Prometheus reads."""
import re
import shutil

import pytest

from tools import SOURCES, poll, run

DOCS = (SOURCES / "docs" / "metrics.md").read_text()
ALERTS = SOURCES / "docs" / "lsvd-alerts.yml"
SAMPLE = re.compile(r'(\w+)\{([^}]*)\} ([0-9.e+-]+|\+Inf)')


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    from tools import World
    world = World(tmp_path_factory.mktemp("metrics"))
    world.create("vm1", "--ec", "2+1")
    world.create("vm2", "--replicas", "2", parts=2)
    with world.serve("vm1"):
        image = world.path / "image"
        image.write_bytes(b"x" * (1 << 20))
        server = "nbd+unix:///?socket=%s" % (world.path / "nbd.sock")
        assert run("nbdcopy", image, server).code == 0
        poll(lambda: world.controls(), "the socket")
        done = world.lsvd("metrics", "vm1")
        assert done.code == 0, done.err
    return done.out


def families(text):
    """name -> (type, help, [(sample's name, labels, value)]); checks that
    each stands together, under its heading."""
    found, name = {}, None
    for line in text.splitlines():
        head = re.fullmatch(r"# (HELP|TYPE) (\w+) (.+)", line)
        if head and head[1] == "HELP":
            name = head[2]
            assert name not in found, line
            found[name] = [None, head[3], []]
        elif head:
            assert head[2] == name
            found[name][0] = head[3]
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert re.fullmatch(name + "(_bucket|_sum|_count)?", sample[1])
            labels = dict(re.findall(r'(\w+)="([^"]*)"', sample[2]))
            found[name][2].append((sample[1], labels, float(sample[3])))
    return found


def test_the_text_is_well_formed(text):
    for name, (kind, told, samples) in families(text).items():
        assert kind in ("gauge", "counter", "histogram")
        assert told.endswith(".")
        assert samples, name
        assert (kind == "counter") == name.endswith("_total"), name
        seen = [(n, tuple(sorted(x.items()))) for n, x, _ in samples]
        assert len(seen) == len(set(seen))
        assert all(x["volume"] == "vm1" for _, x, _ in samples)


def test_histograms_add_up(text):
    checked = 0
    for name, (kind, _, samples) in families(text).items():
        if kind != "histogram":
            continue
        series = {}
        for sample, labels, value in samples:
            bound = labels.pop("le", None)
            one = series.setdefault(tuple(sorted(labels.items())), {})
            one[bound or sample[len(name):]] = value
        for one in series.values():
            total, seconds = one.pop("_count"), one.pop("_sum")
            assert one["+Inf"] == total
            assert (seconds > 0) == (total > 0)
            bounds = sorted(one, key=float)
            counts = [one[b] for b in bounds]
            assert counts == sorted(counts)
            checked += 1
    assert checked == 4 + 3 * 3


def test_docs_and_output_agree(text):
    rows = re.findall(r"^\| `(lsvd_\w+)` \| (\w+) \| (.*?) \| .+ \|$", DOCS,
                      re.M)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels)))
                  for name, kind, labels in rows}
    assert len(documented) == len(rows)
    real = {}
    for name, (kind, _, samples) in families(text).items():
        labels = set().union(*(set(x) for _, x, _ in samples))
        real[name] = (kind, labels - {"volume", "le"})
    assert documented == real


def test_alerts_use_what_is_there(text):
    alerts = ALERTS.read_text()
    known = set(families(text))
    known |= {n for f in families(text).values() for n, _, _ in f[2]}
    used = set(re.findall(r"\blsvd_\w+", alerts))
    assert len(used) >= 8
    assert used <= known
    for need in ("degraded", "stalled", "failed", "fenced"):
        assert need in alerts
    healths = set(re.findall(r'health=~?"([^"]+)"', alerts))
    words = {w for h in healths for w in h.split("|")}
    assert words <= set(re.findall(r'health="([^"]+)"', text))


def test_promtool_agrees(text, tmp_path):
    if not shutil.which("promtool"):
        pytest.skip("no promtool here (package prometheus)")
    file = tmp_path / "text"
    file.write_text(text)
    done = run("sh", "-c", 'promtool check metrics <"$1"', "sh", file)
    assert done.code == 0, done.out + done.err
    done = run("promtool", "check", "rules", ALERTS)
    assert done.code == 0, done.out + done.err
