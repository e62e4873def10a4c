"""Numbers of 0005-aucu-window.md that no packaged set gives: python docs/decisions/0005-aucu-window.py."""

from alloyscope.potential import crystals
from alloyscope.potential.evaluate import FromFormula
from alloyscope.potential.sets import parameter_set

WINDOWS_A = ((4.09, 4.434), (3.62, 4.434), (3.705, 4.538), (3.855, 4.722), (3.62, 5.009), (4.09, 5.009))


def main():
    printed = parameter_set("AuCu")
    print("r0 (Å)  window (Å)        L1_0 c/a  Cu3Au lattice (Å)")
    for r0_A in (2.5562, 2.61, 2.62, 2.651, 2.72):
        for start_A, end_A in WINDOWS_A:
            changed = {"r0_A": r0_A, "cut_start_A": start_A, "cut_end_A": end_A}
            pair = printed.pair("Au", "Cu").model_copy(update=changed)
            parameters = printed.model_copy(update={"pairs": printed.pairs | {"Au-Cu": pair}})
            formula = FromFormula(parameters)
            layered = crystals.best_cell(formula, crystals.ordered("Au", "Cu", 2, parameters), ((0, 1), (2,)))
            cubic = crystals.best_cell(formula, crystals.ordered("Cu", "Au", 3, parameters), ((0, 1, 2),))
            a, _, c = layered.cell.lengths()
            print(f"{r0_A:<7g} {start_A:g} → {end_A:<10g} {c / a:8.3f}  {cubic.cell.lengths()[0]:.3f}")


if __name__ == "__main__":
    main()
