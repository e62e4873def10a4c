"""Physical constants and unit conversions, each with its source."""

import math

ELECTRON_MASS_eV = 510_998.95  # m_e c², CODATA 2018
PLANCK_C_eV_A = 12_398.419843320026  # h c, CODATA 2018 (exact)

ATOMIC_NUMBER = {"Co": 27, "Ni": 28, "Cu": 29, "Pd": 46, "Ag": 47, "Pt": 78, "Au": 79}
ATOMIC_MASS_u = {  # IUPAC standard atomic weights (2021, abridged)
    "Co": 58.933,
    "Ni": 58.693,
    "Cu": 63.546,
    "Pd": 106.42,
    "Ag": 107.87,
    "Pt": 195.08,
    "Au": 196.97,
}

CARBON_MASS_u = 12.011
AVOGADRO_per_mol = 6.02214076e23  # CODATA 2018 (exact)

NEAREST_NEIGHBOUR_A = {  # in the crystal of the element; Kittel, Introduction to Solid State Physics, ch. 1, table 4
    "Co": 2.50,
    "Ni": 2.49,
    "Cu": 2.56,
    "Pd": 2.75,
    "Ag": 2.89,
    "Pt": 2.77,
    "Au": 2.88,
}


def atoms_per_A3(density_g_per_cm3: float, mass_u: float) -> float:
    """Number density of an element from its mass density [1/Å³]."""
    return 1e-24 * AVOGADRO_per_mol * density_g_per_cm3 / mass_u


def electron_wavelength_A(voltage_kV: float) -> float:
    """Relativistic de Broglie wavelength λ = hc / √(eU (2 m_e c² + eU)) [Å]."""
    energy_eV = 1e3 * voltage_kV
    return PLANCK_C_eV_A / math.sqrt(energy_eV * (2 * ELECTRON_MASS_eV + energy_eV))


def interaction_constant_rad_per_VA(voltage_kV: float) -> float:
    """σ = 2π m e λ / h² = 2π (m_e c² + eU) / (λ eU (2 m_e c² + eU)) · e [rad / (V Å)].

    Source: Kirkland, Advanced Computing in Electron Microscopy, eq. 5.6.
    """
    energy_eV = 1e3 * voltage_kV
    wavelength_A = electron_wavelength_A(voltage_kV)
    return (
        2 * math.pi * (ELECTRON_MASS_eV + energy_eV) / (wavelength_A * energy_eV * (2 * ELECTRON_MASS_eV + energy_eV))
    )


def scherzer_defocus_A(C30_A: float, voltage_kV: float) -> float:
    """Scherzer defocus Δf = √(4/3 · C30 λ) [Å], underfocus positive; it is overfocus for negative C30.

    Scherzer, J. Appl. Phys. 20, 20 (1949), who rounds it to 1.2 √(C30 λ). At this defocus the extremum of the
    aberration function is χ = −2π/3, a minimum (+2π/3, a maximum, for negative C30), which gives the widest band of
    transfer without a change of sign.
    """
    return math.copysign(math.sqrt(4 / 3 * abs(C30_A) * electron_wavelength_A(voltage_kV)), C30_A)


def fcc_111_spacing_A(nearest_neighbour_A: float) -> float:
    """Spacing d₁₁₁ = √(2/3) · r0 of the close-packed planes of an fcc crystal, or {0002} of an hcp crystal [Å]."""
    return math.sqrt(2 / 3) * nearest_neighbour_A
