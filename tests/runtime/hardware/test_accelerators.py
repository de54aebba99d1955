"""GPUs and NPUs that are not NVIDIA's, and the reasons for those that are not there."""

from __future__ import annotations

from runtime.hardware import Accelerators, Missing
from runtime.hardware.accelerators import (
    NVIDIA_GPU,
    WINDOWS_DISPLAY,
    nvidia_in_registry,
    nvidia_on_pci,
    read_other_gpus,
)
from runtime.hardware.host import CommandOutput
from runtime.hardware.npus import WINDOWS_COMPUTE, read_npus


def card(vendor: str, driver: str, name: str = "card0", **more: str) -> dict[str, str]:
    device = f"/sys/class/drm/{name}/device"
    files = {"vendor": vendor, "device": "0x46a6", "uevent": f"DRIVER={driver}\nPCI_CLASS=30000\n", **more}
    return {f"{device}/{file}": f"{text}\n" for file, text in files.items()}


def test_an_intel_gpu_with_its_device_file(record) -> None:
    files = {**card("0x8086", "i915"), "/sys/class/drm/card0-HDMI-A-1/status": "x", "/dev/dri/renderD128": ""}
    gpus, missing = read_other_gpus(record(files))
    assert missing is None
    (gpu,) = gpus
    assert (gpu.vendor, gpu.name, gpu.driver, gpu.memory_bytes) == ("Intel", "Intel GPU 0x46a6", "i915", None)
    assert gpu.note is None


def test_an_amd_gpu_in_a_container_without_its_device_file(record) -> None:
    files = card("0x1002", "amdgpu", "card1", mem_info_vram_total=str(16 * 2**30), product_name="Instinct MI210")
    ((gpu,), _) = read_other_gpus(record(files))
    assert (gpu.vendor, gpu.name, gpu.memory_bytes) == ("AMD", "Instinct MI210", 16 * 2**30)
    assert gpu.note == "this process has no device file for it: /dev/dri/renderD* is missing"


def test_a_gpu_on_the_chip_is_named_by_its_driver(record) -> None:
    files = {"/sys/class/drm/card0/device/uevent": "DRIVER=v3d\nOF_NAME=gpu\n"}
    ((gpu,), _) = read_other_gpus(record(files, arch="aarch64"))
    assert (gpu.vendor, gpu.name) == ("v3d", "v3d GPU")


def test_console_chips_are_not_gpus_and_nvidia_is_asked_elsewhere(record) -> None:
    gpus, missing = read_other_gpus(record({**card("0x1a03", "ast"), **card("0x10de", "nvidia", "card1")}))
    assert gpus == ()
    assert missing == Missing("other GPU", "no other GPU: ASPEED display card0 only shows a console")


def test_no_cards_and_garbage_cards(record) -> None:
    assert read_other_gpus(record())[1] is not None
    ((gpu,), _) = read_other_gpus(record({"/sys/class/drm/card0/device/vendor": "\x00garbage"}))
    assert gpu.vendor == "unknown"
    ((gpu,), _) = read_other_gpus(record({"/sys/class/drm/card0/device/vendor": "0xabcd"}))
    assert gpu.vendor == "vendor 0xabcd"


def test_an_npu_with_and_without_its_device_file(record) -> None:
    device = "/sys/class/accel/accel0/device"
    files = {f"{device}/vendor": "0x8086", f"{device}/device": "0x7d1d", f"{device}/uevent": "DRIVER=intel_vpu"}
    ((npu,), missing) = read_npus(record(files))
    assert missing is None
    assert (npu.vendor, npu.name, npu.driver) == ("Intel", "Intel accelerator 0x7d1d", "intel_vpu")
    assert npu.note == "this process has no device file for it: /dev/accel/accel0 is missing"
    ((npu,), _) = read_npus(record({**files, "/dev/accel/accel0": ""}))
    assert npu.note is None


def test_no_npu_and_one_nobody_describes(record) -> None:
    assert read_npus(record())[1] == Missing(
        "NPU", "no NPU: the kernel lists none in /sys/class/accel, and there is no device file of a known one"
    )
    npus, missing = read_npus(record({"/dev/accel/accel0": ""}))
    assert npus == ()
    assert missing is not None
    assert missing.reason.startswith("NPUs are unknown")


def test_nvidia_on_the_pci_bus(record) -> None:
    base = "/sys/bus/pci/devices"
    audio = {f"{base}/0000:01:00.1/class": "0x040300", f"{base}/0000:01:00.1/vendor": "0x10de"}
    assert not nvidia_on_pci(record(audio))
    three_d = {f"{base}/0000:01:00.0/class": "0x030200", f"{base}/0000:01:00.0/vendor": "0x10de"}
    assert nvidia_on_pci(record(three_d))


def test_apple_silicon_also_under_rosetta(record) -> None:
    def translated(command):
        return CommandOutput("1\n" if command[-1] == "sysctl.proc_translated" else "Apple M1\n")

    for host in (
        record(system="darwin", arch="aarch64", run=lambda command: CommandOutput("Apple M1\n")),
        record(system="darwin", arch="x86_64", run=translated),
    ):
        ((gpu,), _) = read_other_gpus(host)
        ((npu,), _) = read_npus(host)
        assert (gpu.vendor, gpu.name, npu.name) == ("Apple", "Apple M1 GPU", "Apple Neural Engine")


def test_an_intel_mac_does_not_pretend_to_know(record) -> None:
    host = record(system="darwin", arch="x86_64")
    gpus, missing = read_other_gpus(host)
    assert gpus == ()
    assert missing is not None
    assert "are unknown" in missing.reason
    assert read_npus(host)[1] == Missing("NPU", "no NPU: Intel Macs have none")


def test_windows_reads_its_registry(record) -> None:
    keys = {
        rf"{WINDOWS_DISPLAY}\0000": {
            "DriverDesc": "Intel(R) Iris(R) Xe Graphics",
            "ProviderName": "Intel Corporation",
            "DriverVersion": "31.0.101",
            "HardwareInformation.qwMemorySize": 2**30,
        },
        rf"{WINDOWS_DISPLAY}\0001": {"DriverDesc": "NVIDIA RTX A2000", "ProviderName": "NVIDIA"},
        rf"{WINDOWS_DISPLAY}\0002": {"DriverDesc": "Microsoft Basic Display Adapter", "ProviderName": "Microsoft"},
        rf"{WINDOWS_DISPLAY}\0003": {"DriverDesc": 5},
        rf"{WINDOWS_DISPLAY}\0004": {
            "DriverDesc": "AMD Radeon 780M",
            "ProviderName": "Advanced Micro Devices, Inc.",
            "HardwareInformation.qwMemorySize": b"odd",
        },
        rf"{WINDOWS_COMPUTE}\0000": {"DriverDesc": "Intel(R) AI Boost", "ProviderName": "Intel"},
    }
    host = record(system="win32", registry=lambda key: keys.get(key, {}))
    gpus, _ = read_other_gpus(host)
    assert [(gpu.vendor, gpu.memory_bytes) for gpu in gpus] == [("Intel", 2**30), ("AMD", None)]
    assert [npu.name for npu in read_npus(host)[0]] == ["Intel(R) AI Boost"]
    assert nvidia_in_registry(host)


def test_an_empty_registry_and_an_unknown_system_give_reasons(record) -> None:
    for system in ("win32", "freebsd14"):
        host = record(system=system)
        assert read_other_gpus(host)[1] is not None
        assert read_npus(host)[1] is not None


def test_the_reason_is_found_by_its_kind() -> None:
    accelerators = Accelerators((), (), (Missing(NVIDIA_GPU, "no NVIDIA GPU: because"),))
    assert accelerators.why_no_nvidia == "no NVIDIA GPU: because"
    assert Accelerators((), ()).why_no_nvidia is None


def test_npus_with_a_device_file_of_their_own(record) -> None:
    nodes = ("apex_0", "hailo0", "rknpu", "ethosn0", "fastrpc-cdsp", "hailo_other", "apexes", "null")
    npus, missing = read_npus(record({f"/dev/{name}": "" for name in nodes}))
    assert missing is None
    assert [(npu.name, npu.seen_by) for npu in npus] == [
        ("Coral Edge TPU", "/dev/apex_0"),
        ("Ethos-N", "/dev/ethosn0"),
        ("Hexagon", "/dev/fastrpc-cdsp"),
        ("Hailo accelerator", "/dev/hailo0"),
        ("Rockchip NPU", "/dev/rknpu"),
    ]


def test_usb_accelerators_by_their_numbers_and_a_keyboard_that_is_none(record) -> None:
    base = "/sys/bus/usb/devices"
    files = {
        f"{base}/1-1/idVendor": "18d1\n",
        f"{base}/1-1/idProduct": "9302\n",
        f"{base}/1-2/idVendor": "046d\n",
        f"{base}/1-2/idProduct": "c31c\n",
        f"{base}/usb1/idVendor": "1d6b\n",
    }
    ((npu,), _) = read_npus(record(files))
    assert (npu.vendor, npu.name) == ("Google", "Coral USB accelerator")


def test_an_npu_among_the_graphics_cards_is_no_gpu(record) -> None:
    files = {"/sys/class/drm/card1/device/uevent": "DRIVER=RKNPU\nOF_NAME=npu\n"}
    host = record(files, arch="aarch64")
    assert read_other_gpus(host)[0] == ()
    ((npu,), _) = read_npus(host)
    assert (npu.vendor, npu.name, npu.driver) == ("Rockchip", "Rockchip NPU", "RKNPU")
