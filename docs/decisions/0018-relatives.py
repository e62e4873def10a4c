"""Numbers of 0018-relatives.md: python docs/decisions/0018-relatives.py FOLDER POTENTIAL.

FOLDER holds an md chunk 0 whose particles have the same composition; the potential relaxes the first two snapshots.
"""

import math
import sys
from pathlib import Path

import numpy as np

from alloyscope.lammps import commands
from alloyscope.lammps.start import load_lammps
from alloyscope.store.chunks import snapshots_in
from alloyscope.store.manifests import Manifest, manifest_name
from alloyscope.structure.fingerprint import DISTANCES, PROJECTIONS, fingerprint
from alloyscope.structure.relatives import RELATED, TWINS, groups

SPECIES = ("Ag", "Co")


def rms(differences):
    return np.sqrt(np.mean(differences**2, axis=-1))


def chance(limit):
    """Bound of the probability that unrelated structures are nearer: the density of a difference is 9/16 at most."""
    count = len(PROJECTIONS)
    ball = math.pi ** (count / 2) / math.gamma(count / 2 + 1)
    return ball * (9 / 16 * limit * math.sqrt(count)) ** count


def inherent_energy_eV(lmp, frame, potential):
    types = np.array([SPECIES.index(element) for element in frame.elements])
    system = commands.System(SPECIES, types, frame.positions_A, potential)
    return commands.energy_and_forces(lmp, system, relax=True)[0]


def main(folder: Path, potential: Path):
    trajectories = snapshots_in(Manifest.read(folder / manifest_name(0)), folder)
    found = np.array(
        [[list(fingerprint(frame, SPECIES).values()) for frame in frames] for frames in trajectories.values()]
    )
    distances, projections = np.split(found, [len(DISTANCES)], axis=2)
    count, frames = found.shape[:2]
    print(f"{count} trajectories of {frames} frames\nlag  median  99 %   most   within {RELATED:g}  within {TWINS:g}")
    for lag in (1, 9, 19, 39):
        apart = rms(projections[:, lag:] - projections[:, :-lag]).ravel()
        shares = f"{(apart < RELATED).mean():<12.2%} {(apart < TWINS).mean():.2%}"
        print(f"{lag:<4} {np.median(apart):.3f}   {np.quantile(apart, 0.99):.3f}  {apart.max():.3f}  {shares}")
    one, other = np.triu_indices(count, k=1)
    for name, values in (("projections", projections), ("distances (Å)", distances)):
        apart = rms(values[one, 0] - values[other, 0])
        print(f"unrelated, {name}: {len(apart)} pairs, least {apart.min():.3f}, median {np.median(apart):.3f}")
    print(f"unrelated within {RELATED:g}: {chance(RELATED):.1e}, within {TWINS:g}: {chance(TWINS):.1e} at most")
    apart = rms(distances[:, 1:] - distances[:, :-1]).ravel()
    print(f"lag 1, distances: median {np.median(apart):.3f} Å, most {apart.max():.3f} Å")
    lmp = load_lammps()
    energies = [[inherent_energy_eV(lmp, frame, potential) for frame in each[:2]] for each in trajectories.values()]
    print(f"lag 1, relaxed to the same energy within 1 meV: {(np.abs(np.diff(energies)) < 1e-3).sum()} of {count}")
    order = np.random.default_rng(0).permutation(count * frames)
    shuffled = found.reshape(count * frames, -1)[order]
    joined = groups(np.ones((len(shuffled), 2), int), shuffled, np.full(len(shuffled), None, object))
    truth = order // frames
    mixed = sum(len(set(truth[joined == group])) > 1 for group in set(joined.tolist()))
    print(f"frames in random order: {len(set(joined.tolist()))} groups, {mixed} of them with several trajectories")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
