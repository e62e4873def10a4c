# in:  section `potential`
# out: potential/AgCo-orleans.eam.fs    the tabulated second-moment potential (LAMMPS setfl)
#      potential/validation.json        checks against the formula, bulk and clusters; validation.svg stands beside it


rule potential:
    output:
        table=f"{RESULTS}/potential/{TABLE}",
        validation=report(
            f"{RESULTS}/potential/validation.json",
            caption="../report/validation.rst",
            category="Potential",
        ),
    log:
        f"{RESULTS}/logs/potential/potential.log",
    benchmark:
        f"{RESULTS}/benchmarks/potential/potential.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        **made_from("potential"),
        folder=lambda wildcards, output: Path(output.table).parent,
    shell:
        """
        python -m alloyscope potential \
            --potential {params.potential:q} \
            --out {params.folder:q} \
            2>>{log:q}
        """
