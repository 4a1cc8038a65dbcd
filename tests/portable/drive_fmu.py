"""Do with an FMU what a file says, by FMPy alone: `python drive_fmu.py SAID.json TOLD.json`.

Debian's runtime, which an FMU has behind it, cannot be in one process with that of PyPI.
"""

import json
import sys
from pathlib import Path

import fmpy
from fmpy.fmi2 import FMU2Slave
from fmpy.fmi3 import FMU3Slave
from fmpy.validation import validate_fmu


class Slave:
    """An FMU that FMPy runs, whichever version of FMI it is of."""

    def __init__(self, path, folder):
        said = fmpy.read_model_description(path)
        self.two = said.fmiVersion == "2.0"
        token = said.guid if self.two else said.instantiationToken
        self.fmu = (FMU2Slave if self.two else FMU3Slave)(
            guid=token, unzipDirectory=fmpy.extract(path, str(folder)), instanceName="plant",
            modelIdentifier=said.coSimulation.modelIdentifier,
        )  # fmt: skip
        if not self.two:
            self.fmu.instantiationToken = token
        self.fmu.instantiate()
        self.numbers = {v.name: v.valueReference for v in said.modelVariables}

    def either(self, two, three, *given):
        return getattr(self.fmu, two if self.two else three)(*given)

    def put(self, cells):
        values = [float("nan") if v is None else v for v in cells.values()]
        self.either("setReal", "setFloat64", [self.numbers[n] for n in cells], values)

    def read(self, names):
        return self.either("getReal", "getFloat64", [self.numbers[n] for n in names])

    def begin(self, cells):
        if self.two:
            self.fmu.setupExperiment(startTime=0.0)
            self.fmu.enterInitializationMode()
        else:
            self.fmu.enterInitializationMode(startTime=0.0)
        self.put(cells)
        self.fmu.exitInitializationMode()

    def step(self, start, size, cells):
        self.put(cells)
        self.fmu.doStep(currentCommunicationPoint=start, communicationStepSize=size)

    def kept(self):
        state = self.either("getFMUstate", "getFMUState")
        found = self.either("serializeFMUstate", "serializeFMUState", state)
        self.either("freeFMUstate", "freeFMUState", state)
        return found

    def restore(self, kept):
        state = self.either("deSerializeFMUstate", "deserializeFMUState", kept)
        self.either("setFMUstate", "setFMUState", state)

    def end(self):
        self.fmu.freeInstance()


def refused(call, *given):
    """Return what is said of a call that fails."""
    try:
        call(*given)
    except Exception as error:
        return str(error)
    return ""


def main(said, told):
    said, folder = json.loads(Path(said).read_text()), Path(told).parent
    problems = [str(problem) for problem in validate_fmu(said["fmu"])]
    slave, kept = Slave(said["fmu"], folder / "plant 炉"), None
    slave.begin(said["begin"])
    answers = [slave.read(said["read"])]
    for number, step in enumerate(said["steps"], 1):
        slave.step(*step)
        answers.append(slave.read(said["read"]))
        if number == len(said["steps"]) // 2:
            kept = slave.kept()
    again = Slave(said["fmu"], folder / "again")
    again.begin(said["begin"])
    again.restore(kept)
    for step in said["steps"][len(said["steps"]) // 2 :]:
        again.step(*step)
    wrong = {name: refused(slave.step, *step) for name, step in said["wrong steps"].items()}
    wrong["output"] = refused(slave.put, {said["read"][0]: 1.0})
    lacking = Slave(said["fmu"], folder / "lacking")
    less = {name: v for name, v in said["begin"].items() if name != said["needed"]}
    wrong["lacking"] = refused(lacking.begin, less)
    found = {"problems": problems, "answers": answers, "again": again.read(said["read"])}
    Path(told).write_text(json.dumps({**found, "wrong": wrong}))
    for one in (slave, again, lacking):
        one.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
