-- A site's filter in the controller: it refuses only where a test asks for it.
function slurm_job_submit(description, partitions, uid)
    if description.partition == "percpu" and description.features == "budget" then
        slurm.log_user("Your group has used up its budget of this month.")
        return slurm.ERROR
    end
    return slurm.SUCCESS
end

function slurm_job_modify(description, record, partitions, uid)
    return slurm.SUCCESS
end
