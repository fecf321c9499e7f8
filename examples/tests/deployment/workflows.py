"""Checks workflows against GitHub's schema, and that they run no action but by its commit and have no right that they
do not name. What is wrong goes to standard error, one line each; prints the workflows as JSON."""

import importlib.resources
import json
import pathlib
import re
import sys

import jsonschema
import yaml

SCHEMA = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "github-workflows.json"
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")


def problems_of(workflow, schema):
    found = jsonschema.validators.validator_for(schema)(schema).iter_errors(workflow)
    yield from (f"{'.'.join(str(part) for part in problem.path)}: {problem.message}" for problem in found)
    if workflow.get("permissions") != {}:
        yield "permissions: the workflow's must be {}, each job names its own"
    for name, job in workflow.get("jobs", {}).items():
        if "timeout-minutes" not in job:
            yield f"{name}: there is no timeout-minutes"
        for step in job.get("steps", []):
            if "uses" in step and not PINNED.fullmatch(step["uses"]):
                yield f"{name}: {step['uses']} is not pinned by a commit"


def main():
    schema, problems, workflows = json.loads(SCHEMA.read_text()), [], {}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.yml")):
        # `on` is a boolean in YAML 1.1.
        text = re.sub(r"(?m)^on:", '"on":', path.read_text())
        workflows[path.stem] = yaml.safe_load(text)
        problems += [f"{path.name}: {problem}" for problem in problems_of(workflows[path.stem], schema)]
    print("\n".join(problems), file=sys.stderr)
    print(json.dumps(workflows))
    sys.exit(bool(problems))


main()
