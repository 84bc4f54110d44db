"""What pyproject.toml cannot say: `pip install .` takes the part of requirements.txt that is above "Tests"."""

from pathlib import Path

from setuptools import setup

needed, _, tests = Path(__file__).with_name("requirements.txt").read_text().partition("\n# Tests")


def requirements(text: str) -> list[str]:
    return [line for line in (line.partition("#")[0].strip() for line in text.splitlines()[1:]) if line]


setup(install_requires=requirements(needed), extras_require={"test": requirements(tests)})
