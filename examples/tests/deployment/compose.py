"""Checks a compose file against the compose specification's schema, and prints it as JSON."""

import importlib.resources
import json
import sys

import jsonschema
import yaml

SCHEMA = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"


def main():
    compose = yaml.safe_load(sys.stdin)
    schema = json.loads(SCHEMA.read_text())
    problems = jsonschema.validators.validator_for(schema)(schema).iter_errors(compose)
    lines = [f"{'.'.join(str(part) for part in problem.path)}: {problem.message}" for problem in problems]
    print("\n".join(lines), file=sys.stderr)
    print(json.dumps(compose))
    sys.exit(bool(lines))


main()
