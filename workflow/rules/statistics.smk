# in:  structures/structures.parquet; of the structure files beside it, those of the particles that are shown
# out: report/statistics.html    self-contained page; needs no image, so it can be asked for by name before there is one


rule statistics:
    input:
        structures=rules.structures.output.table,
    output:
        page=report(
            f"{RESULTS}/report/statistics.html",
            caption="../report/statistics.rst",
            category="Structures",
        ),
    log:
        f"{RESULTS}/logs/statistics/statistics.log",
    benchmark:
        f"{RESULTS}/benchmarks/statistics/statistics.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        **made_from("statistics"),
    shell:
        """
        python -m alloyscope statistics \
            --structures {input.structures:q} \
            --labels {params.labels:q} \
            --out {output.page:q} \
            2>>{log:q}
        """
