#!/bin/bash
# The campaign inside one whole-node allocation, for centres that hand out nodes. From the top of the checkout:
#
#   sbatch profiles/node/job.sh                                                 the campaign of config.yaml
#   sbatch profiles/node/job.sh --configfile workflow/campaigns/minimal.yaml    any of snakemake's options
#
# Longer than one job may last: submit it several times, SLURM runs one after the other and each goes on where the last
# one stopped. No other snakemake may work in this folder meanwhile. Options given to sbatch override these:
#SBATCH --job-name=alloyscope
#SBATCH --dependency=singleton
#SBATCH --partition=gpu
#SBATCH --gres=gpu:1
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=alloyscope-%j.log
#SBATCH --open-mode=append
# ten minutes before the end Snakemake is told to start nothing more; what still runs at the end goes on in the next job
#SBATCH --signal=B:INT@600

# your centre's modules, if the environment needs any:  module load …
[ -f .venv/bin/activate ] && source .venv/bin/activate
export OMP_NUM_THREADS=1
# a job that was ended by its time or with its node has left Snakemake's lock; singleton: no other one is running
snakemake --profile profiles/node --unlock "$@"
exec snakemake --profile profiles/node "$@"
