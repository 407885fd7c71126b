-- A site's filter on the login node: it refuses before the controller is asked, and only where a test asks for it.
function slurm_cli_setup_defaults(options, early_pass)
    return slurm.SUCCESS
end

function slurm_cli_pre_submit(options, offset)
    if options["partition"] == "percpu" and options["mem"] ~= nil then
        slurm.log_error("Requesting memory by node is not supported. Use --mem-per-cpu.")
        return slurm.ERROR
    end
    if options["partition"] == "percpu" and options["constraint"] == "refused" then
        slurm.log_error("Ce projet n'a plus d'heures.")
        return slurm.ERROR
    end
    return slurm.SUCCESS
end

function slurm_cli_post_submit(offset, job_id, step_id)
    return slurm.SUCCESS
end
