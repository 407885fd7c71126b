import subprocess, time
import pytest
import yaml

def test_site(site, clusters_file, world_home):
    entry = yaml.safe_load(clusters_file.read_text())["testbed"]
    assert entry["scheduler"] == site.scheduler
    assert site.scratch.is_dir()
    assert site.run("pwd").stdout.strip() == str(site.scratch)
    assert "SSH_AUTH_SOCK" not in world_home.env
    done = site.run(site.science_python, "-c", "import sklearn; print(sklearn.__version__)")
    assert done.returncode == 0, done
    print(site, done.stdout)
    if site.scheduler == "slurm":
        site.run("sbatch", "--array=0-3", "--begin=now+1hour", "--wrap=true")
        site.run("sbatch", "-H", "--wrap=true")
    if site.scheduler == "sge":
        site.run("sh", "-c", "echo sleep 100 | qsub -h -t 1-3 -cwd; echo sleep 100 | qsub -cwd")

@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_count(site, ssh_counter, world_home, tmp_path):
    cfg = site.cluster["ssh_config"]; host = site.cluster["host"]
    run = lambda *a: subprocess.run(a, env=world_home.env, check=False, capture_output=True, text=True, timeout=20)
    (tmp_path / "x").write_text("hi")
    assert run("ssh", "-F", cfg, "-o", "BatchMode=yes", host, "echo a\necho -O b").stdout == "a\n-O b\n"
    d = run("rsync", "-a", "-e", f"ssh -F {cfg}", str(tmp_path / "x"), f"{host}:{site.scratch}/x"); assert d.returncode == 0, d
    run("ssh", "-F", cfg, "-O", "check", host)
    print(ssh_counter.lines())
    assert ssh_counter.count() == 2 and ssh_counter.count("ssh") == 1 and ssh_counter.count("rsync") == 1
    assert len(ssh_counter.lines()) == 3

@pytest.mark.sge
def test_mark(): pass

def test_cli(run_cli):
    out = run_cli("describe", "nonsense")
    print(out)
    assert out.code == 1
