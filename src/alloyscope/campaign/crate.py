"""RO-Crate 1.1 description of a released image set: its content, its origin, and every file with its checksum.

RO-Crate (https://w3id.org/ro/crate/1.1) is flat JSON-LD in schema.org's terms. Add authors and an identifier before you
publish a set.
"""

from collections.abc import Mapping
from typing import Any

from alloyscope.config.model import Config
from alloyscope.potential.sets import ParameterSet
from alloyscope.sections import compact

NAME = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/crate/1.1"
# ASSUME the images carry the licence of the code that made them, like the rest of the project
LICENCE = "https://spdx.org/licenses/MIT"
STORE = "images.zarr/"
FORMATS = {".parquet": "application/vnd.apache.parquet", ".json": "application/json"}

Entity = dict[str, Any]


def _to(identifier: str) -> Entity:
    return {"@id": identifier}


def crate(
    config: Config,
    config_digest: str,
    parameters: ParameterSet,
    account: Mapping[str, Any],
    files: Mapping[str, str],
) -> Entity:
    """The content of ro-crate-metadata.json.

    Args:
        config: Config of the campaign.
        config_digest: Digest of the settings that made the images.
        parameters: Parameter set of the potential, with its sources.
        account: Account of the released set, as in dataset.json.
        files: Path relative to the crate's folder → SHA-256.
    """
    in_store = [name for name in files if name.startswith(STORE)]
    beside = [name for name in files if not name.startswith(STORE)]
    graph = [
        {
            "@id": NAME,
            "@type": "CreativeWork",
            "conformsTo": _to(PROFILE),
            "about": _to("./"),
        },
        _root(config, account, [STORE, *beside, "dataset.json"]),
        {
            "@id": STORE,
            "@type": "Dataset",
            "name": "images",
            "description": "Zarr v3 group of the images: one shard per chunk and array",
            "encodingFormat": "application/vnd+zarr",
            "hasPart": [_to(name) for name in in_store],
        },
        *(_file(name) | {"sha256": files[name]} for name in files),
        _file("dataset.json") | {"description": "account of the set: counts, splits, checksums, provenance"},
        {"@id": LICENCE, "@type": "CreativeWork", "name": "MIT License", "url": LICENCE},
        *_making(config_digest, account["provenance"]),
        *_camera(account["camera"]),
        {
            "@id": "#potential",
            "@type": "CreativeWork",
            "name": f"second-moment parameter set {parameters.name}",
            "description": parameters.description,
            "citation": sorted({f"{pair}: {source}" for pair, source in parameters.sources.items()}),
        },
    ]
    # The context of RO-Crate 1.1 does not yet contain schema.org's term for a checksum.
    return {"@context": [f"{PROFILE}/context", {"sha256": "https://schema.org/sha256"}], "@graph": graph}


def _file(name: str) -> Entity:
    form = next((form for ending, form in FORMATS.items() if name.endswith(ending)), "application/octet-stream")
    return {"@id": name, "@type": "File", "name": name, "encodingFormat": form}


def _root(config: Config, account: Mapping[str, Any], parts: list[str]) -> Entity:
    first, second = config.particles.species
    kind = "simulated by molecular dynamics" if config.particles.source == "md" else "from structure files"
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{config.campaign.name}: HRTEM images of {first}{second} nanoparticles",
        "description": (
            f"{account['n_valid_images']} simulated high-resolution transmission electron microscope images of "
            f"{account['n_particles']} {first}{second} nanoparticles {kind}, expected intensity and counts, with every "
            f"parameter drawn and the labels of each particle."
        ),
        "datePublished": account["provenance"]["finished"],
        "license": _to(LICENCE),
        "version": account["digest"],
        "keywords": ["nanoparticle", "HRTEM", "multislice", first, second],
        "hasPart": [_to(part) for part in parts],
        "isBasedOn": _to("#potential"),
        "mentions": _to("#campaign"),
    }


def _making(config_digest: str, provenance: Mapping[str, Any]) -> list[Entity]:
    commit = provenance["commit"]
    return [
        {
            "@id": "#campaign",
            "@type": "CreateAction",
            "name": "simulation campaign",
            "instrument": [_to("#alloyscope"), _to("#camera")],
            "object": [_to("#config"), _to("#potential")],
            "result": _to("./"),
            "endTime": provenance["finished"],
        },
        {
            "@id": "#alloyscope",
            "@type": "SoftwareApplication",
            "name": "alloyscope",
            "softwareVersion": provenance["versions"]["alloyscope"] + (f", commit {commit}" if commit else ""),
            "license": _to("https://spdx.org/licenses/MIT"),
        },
        {
            "@id": "#config",
            "@type": "PropertyValue",
            "name": "digest of the settings that made the images",
            "value": config_digest,
        },
    ]


def _camera(camera: Mapping[str, Any]) -> list[Entity]:
    """The simulated camera, with one property for each setting; a range stands as in the config, in JSON."""
    presets = {f"preset of {name}": preset for name, preset in camera["presets"].items()}
    settings = {name: value for name, value in camera.items() if name != "presets"} | presets
    properties = [
        {
            "@id": f"#camera-{name.replace(' ', '-')}",
            "@type": "PropertyValue",
            "name": name,
            "value": compact(value) if isinstance(value, list | dict) else value,
        }
        for name, value in settings.items()
    ]
    return [
        {
            "@id": "#camera",
            "@type": "IndividualProduct",
            "name": f"simulated {camera['kind']} camera, {camera['pixels']}² pixels",
            "additionalProperty": [_to(each["@id"]) for each in properties],
        },
        *properties,
    ]
