"""The processor as each system tells of it."""

from worker_runtime.machine.processor import Processor, from_cpuinfo, from_sysctl, read_processor

LINUX = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma avx2\n\nflags: no\n"
LINUX_ON_ARM = "processor\t: 0\nFeatures\t: fp asimd i8mm\n"
MACOS = "machdep.cpu.brand_string: Apple M3\nhw.optional.arm.FEAT_I8MM: 1\nhw.optional.sme: 0\n"


def test_linux_names_it_and_its_features() -> None:
    assert from_cpuinfo(LINUX) == Processor("Some CPU", ("avx2", "fma", "fpu"))
    assert from_cpuinfo(LINUX_ON_ARM).features == ("asimd", "fp", "i8mm")


def test_macos_does_too() -> None:
    assert from_sysctl(MACOS) == Processor("Apple M3", ("feat_i8mm",))


def test_features_are_asked_for_in_an_order() -> None:
    assert from_cpuinfo(LINUX).has("fma", "amx_int8", "avx2") == ["fma", "avx2"]


def test_this_machine_has_one() -> None:
    assert read_processor().name
