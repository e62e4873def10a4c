# in:  the whole config
# out: plan/particles.parquet    one row per planned particle, for the user: no rule reads it, so growth reruns nothing
#      plan/campaign.json        the resolved config, for `alloyscope status`


rule plan:
    output:
        particles=f"{RESULTS}/plan/particles.parquet",
        campaign=f"{RESULTS}/plan/campaign.json",
    log:
        f"{RESULTS}/logs/plan/plan.log",
    benchmark:
        f"{RESULTS}/benchmarks/plan/plan.tsv"
    priority: 10
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        **made_from("plan"),
    shell:
        """
        python -m alloyscope plan \
            --config {params.config:q} \
            --out {output.particles:q} \
            2>>{log:q}
        """
