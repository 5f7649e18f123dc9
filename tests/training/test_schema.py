"""The JSON schema of the configs: it accepts every shipped config and refuses misspelt ones."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from img2img.cli import main
from img2img.shipped import shipped_configs


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    file = tmp_path_factory.mktemp("schema") / "schema.json"
    main(["schema", str(file)])
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def validator(schema):
    """What editors do with the schema, which is itself checked once."""
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.mark.parametrize("config", shipped_configs(), ids=lambda config: config.name)
def test_the_schema_accepts_shipped_configs(validator, config):
    validator.validate(yaml.safe_load(config.read_text()))


@pytest.mark.parametrize(
    ("place", "value"),
    [(("trainr",), {}), (("model", "class_path"), "Restauration"), (("trainer", "max_steps"), "many")],
)
def test_the_schema_refuses_mistakes(validator, place, value):
    config = yaml.safe_load(next(c for c in shipped_configs() if c.name == "denoise.yaml").read_text())
    branch = copy.deepcopy(config)
    whole = branch
    for key in place[:-1]:
        branch = branch[key]
    branch[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(whole)


def test_the_schema_lists_classes_and_their_arguments(schema):
    tasks = json.dumps(schema["$defs"]["task"])
    assert all(name in tasks for name in ("Restoration", "Inpainting", "VariationalAutoencoder", "hole_loss", "lr"))
    assert "sigma_limit" in json.dumps(schema["$defs"]["transform"])


def test_the_schema_is_printed_without_a_file(capsys):
    main(["schema"])
    assert json.loads(capsys.readouterr().out)["title"] == "img2img config"
    assert not list(Path().iterdir())
