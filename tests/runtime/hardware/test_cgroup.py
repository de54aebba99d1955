"""Control groups: which directories count, what their files say, and that the tightest wins."""

from __future__ import annotations

import pytest

from runtime.hardware.cgroup import (
    UNLIMITED_BYTES,
    Membership,
    Mount,
    directories_up,
    pair,
    parse_cfs,
    parse_cpu_max,
    parse_membership,
    parse_memory_limit,
    parse_mounts,
    parse_stat,
    read_limits,
)

V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 master:2 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
GIB = 2**30


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000", None),
        ("150000 100000", 1.5),
        ("50000 100000\n", 0.5),
        ("1000 1000000", 0.001),
        ("max", None),
        ("", None),
        ("100000", None),
        ("0 100000", None),
        ("100000 0", None),
        ("-1 100000", None),
        ("garbage here", None),
        ("1 2 3", None),
        ("9" * 400 + " 1", None),
    ],
)
def test_cpu_max(text: str, cores: float | None) -> None:
    assert parse_cpu_max(text) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [("-1", "100000", None), ("250000", "100000", 2.5), ("", "", None), ("100000", "", None), ("x", "100000", None)],
)
def test_cfs_quota(quota: str, period: str, cores: float | None) -> None:
    assert parse_cfs(quota, period) == cores


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max", None),
        ("536870912\n", 536870912),
        ("0", 0),
        (str(2**63 - 4096), None),
        (str(2**63 - 65536), None),
        (str(2**64 - 1), None),
        (str(UNLIMITED_BYTES), None),
        ("-1", None),
        ("", None),
        ("lots", None),
    ],
)
def test_memory_limits_and_the_numbers_that_mean_none(text: str, limit: int | None) -> None:
    assert parse_memory_limit(text) == limit


def test_membership() -> None:
    text = "9:name=systemd:/\n4:memory:/docker/a:b\n3:cpu,cpuacct:/x\n0::/user.slice\n"
    text += "nonsense\n5:pids\nx:cpu:/y\n1:cpu:y\n"
    assert parse_membership(text) == (
        Membership(frozenset({"name=systemd"}), "/"),
        Membership(frozenset({"memory"}), "/docker/a:b"),
        Membership(frozenset({"cpu", "cpuacct"}), "/x"),
        Membership(frozenset(), "/user.slice"),
    )


def test_mounts_with_optional_fields_and_escaped_spaces() -> None:
    text = (
        V1_MOUNTS
        + "40 31 0:9 /a\\040b /mnt/my\\040groups rw - cgroup2 none rw\n"
        + "short - cgroup2 x y\nno separator at all\n1 2 3 4 5 6 - cgroup2\n"
    )
    mounts = parse_mounts(text)
    assert [mount.mount_point for mount in mounts] == [
        "/sys/fs/cgroup/cpu,cpuacct",
        "/sys/fs/cgroup/cpuset",
        "/sys/fs/cgroup/memory",
        "/mnt/my groups",
    ]
    assert mounts[-1] == Mount(frozenset(), "/a b", "/mnt/my groups")


def test_a_hierarchy_is_paired_by_its_controllers() -> None:
    v2, cpu = Mount(frozenset(), "/", "/two"), Mount(frozenset({"rw", "cpu", "cpuacct"}), "/", "/cpu")
    memberships = [
        Membership(frozenset(), "/a"),
        Membership(frozenset({"cpu"}), "/b"),
        Membership(frozenset({"x"}), "/c"),
    ]
    assert list(pair(memberships, [v2, cpu])) == [(v2, "/a"), (cpu, "/b")]


@pytest.mark.parametrize(
    ("root", "path", "directories"),
    [
        ("/", "/", ("/m",)),
        ("/", "/a/b", ("/m/a/b", "/m/a", "/m")),
        ("/docker/x", "/docker/x", ("/m",)),
        ("/docker/x", "/docker/x/y", ("/m/y", "/m")),
        ("/docker/x", "/docker/xy", ("/m",)),  # a neighbour whose name begins the same
        ("/docker/x", "/elsewhere", ("/m",)),
        ("/", "/../../secret", ("/m",)),
        ("/..", "/", ("/m",)),
    ],
)
def test_directories_from_the_group_up_to_the_mount(root: str, path: str, directories: tuple[str, ...]) -> None:
    assert directories_up(Mount(frozenset(), root, "/m"), path) == directories


def test_v2_nested_the_parent_may_be_the_tighter_one(record) -> None:
    base = "/sys/fs/cgroup"
    limits = read_limits(
        record(
            {
                "/proc/self/cgroup": "0::/pod/app\n",
                "/proc/self/mountinfo": V2_MOUNT,
                f"{base}/pod/app/cpu.max": "400000 100000\n",
                f"{base}/pod/app/memory.max": "max\n",
                f"{base}/pod/cpu.max": "150000 100000\n",
                f"{base}/pod/memory.max": f"{2 * GIB}\n",
                f"{base}/pod/memory.current": f"{GIB}\n",
                f"{base}/pod/memory.stat": f"anon 5\ninactive_file {GIB // 4}\n",
            }
        )
    )
    assert limits is not None
    assert limits.tightest_quota is not None
    assert limits.tightest_quota.cores == 1.5
    assert limits.tightest_quota.source == f"{base}/pod/cpu.max"
    assert limits.tightest_memory is not None
    assert limits.tightest_memory.limit_bytes == 2 * GIB
    assert limits.memory_headroom_bytes == GIB + GIB // 4


def test_v2_nested_the_leaf_may_be_the_tighter_one(record) -> None:
    limits = read_limits(
        record(
            {
                "/proc/self/cgroup": "0::/pod/app\n",
                "/proc/self/mountinfo": V2_MOUNT,
                "/sys/fs/cgroup/pod/app/cpu.max": "50000 100000",
                "/sys/fs/cgroup/pod/cpu.max": "200000 100000",
                "/sys/fs/cgroup/pod/app/memory.max": str(GIB),
                "/sys/fs/cgroup/pod/memory.max": str(4 * GIB),
            }
        )
    )
    assert limits is not None
    assert limits.tightest_quota is not None
    assert limits.tightest_quota.cores == 0.5
    assert limits.tightest_memory is not None
    assert limits.tightest_memory.limit_bytes == GIB
    assert limits.tightest_memory.used_bytes is None


def test_a_wide_parent_full_of_neighbours_leaves_the_least_room(record) -> None:
    limits = read_limits(
        record(
            {
                "/proc/self/cgroup": "0::/pod/app\n",
                "/proc/self/mountinfo": V2_MOUNT,
                "/sys/fs/cgroup/pod/app/memory.max": str(GIB),
                "/sys/fs/cgroup/pod/app/memory.current": "0",
                "/sys/fs/cgroup/pod/memory.max": str(4 * GIB),
                "/sys/fs/cgroup/pod/memory.current": str(5 * GIB),
            }
        )
    )
    assert limits is not None
    assert limits.tightest_memory is not None
    assert limits.tightest_memory.limit_bytes == GIB
    assert limits.memory_headroom_bytes == 0


def test_v1_in_a_container_that_sees_its_group_as_the_root(record) -> None:
    mounts = V1_MOUNTS.replace(" / /sys/fs/cgroup/", " /docker/abc /sys/fs/cgroup/")
    limits = read_limits(
        record(
            {
                "/proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
                "/proc/self/mountinfo": mounts,
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * GIB}\n",
                "/sys/fs/cgroup/memory/memory.usage_in_bytes": f"{2 * GIB}\n",
                "/sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB}\nhierarchical_memory_limit {9 * GIB}",
            }
        )
    )
    assert limits is not None
    assert [quota.cores for quota in limits.quotas] == [2.5]
    assert [limit.limit_bytes for limit in limits.memory] == [3 * GIB]
    assert limits.memory_headroom_bytes == 2 * GIB


def test_v1_unlimited_is_no_limit_and_hidden_parents_count(record) -> None:
    unlimited = {
        "/proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/a\n",
        "/proc/self/mountinfo": V1_MOUNTS,
        "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
        "/sys/fs/cgroup/memory/a/memory.stat": "hierarchical_memory_limit 9223372036854771712\n",
    }
    limits = read_limits(record(unlimited))
    assert limits is not None
    assert limits.quotas == limits.memory == ()
    assert limits.tightest_quota is limits.tightest_memory is limits.memory_headroom_bytes is None
    hidden = {"/sys/fs/cgroup/memory/a/memory.stat": f"hierarchical_memory_limit {GIB}\n"}
    limits = read_limits(record({**unlimited, **hidden}))
    assert limits is not None
    assert limits.tightest_memory is not None
    assert limits.tightest_memory.limit_bytes == GIB
    assert limits.tightest_memory.source == "/sys/fs/cgroup/memory/a/memory.stat"


def test_both_versions_at_once(record) -> None:
    limits = read_limits(
        record(
            {
                "/proc/self/cgroup": "4:memory:/a\n0::/b\n",
                "/proc/self/mountinfo": V1_MOUNTS + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": str(GIB),
                "/sys/fs/cgroup/unified/b/cpu.max": "300000 100000",
            }
        )
    )
    assert limits is not None
    assert limits.tightest_quota is not None
    assert limits.tightest_quota.cores == 3.0
    assert limits.tightest_memory is not None
    assert limits.tightest_memory.limit_bytes == GIB


@pytest.mark.parametrize("version", [1, 2])
def test_without_mountinfo_the_usual_places_are_tried(record, version: int) -> None:
    files = {
        1: {
            "/proc/self/cgroup": "2:cpu:/a\n",
            "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "200000",
            "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
        },
        2: {"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/cpu.max": "200000 100000"},
    }
    limits = read_limits(record(files[version]))
    assert limits is not None
    assert limits.tightest_quota is not None
    assert limits.tightest_quota.cores == 2.0


def test_unreadable_membership_is_unknown_and_not_unlimited(record) -> None:
    assert read_limits(record()) is None
    assert read_limits(record({"/proc/self/cgroup": "0::/\n"}, system="darwin")) is None


@pytest.mark.parametrize("garbage", [b"", b"\xff\x00\xfe", b"9" * 10_000, b"-5", b"max max max\n" * 9, b"\n\n \t"])
def test_garbage_in_any_file_is_no_limit_and_no_crash(record, garbage: bytes) -> None:
    names = ("cpu.max", "memory.max", "memory.current", "memory.stat")
    v2 = {f"/sys/fs/cgroup/a/{name}": garbage for name in names}
    limits = read_limits(record({"/proc/self/cgroup": "0::/a\n", "/proc/self/mountinfo": V2_MOUNT, **v2}))
    assert limits is not None
    assert limits.quotas == limits.memory == ()
    for file in ("/proc/self/cgroup", "/proc/self/mountinfo"):
        assert read_limits(record({"/proc/self/cgroup": "0::/a\n", file: garbage})) is not None


def test_stat_lines() -> None:
    assert parse_stat("anon 5\nbad\nfile x\n\ntoo many words\nslab 7") == {"anon": 5, "slab": 7}
