// Package chart_test renders the chart as helm does. It is a module of its own,
// because helm needs more modules than all of walpurge does.
package chart_test

import (
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

const chart = "../walpurge"

type object = map[string]any

// render returns the objects by kind and name, or why the chart refuses.
func render(t *testing.T, values string) (map[string]object, error) {
	t.Helper()
	c, err := loader.Load(chart)
	if err != nil {
		t.Fatal(err)
	}
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "shop", Namespace: "web", Revision: 1, IsInstall: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	out := map[string]object{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Ext(name) != ".yaml" {
			continue
		}
		for _, text := range strings.Split(files[name], "\n---\n") {
			var o object
			if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			if len(o) > 0 {
				out[o["kind"].(string)+" "+at(o, "metadata", "name").(string)] = o
			}
		}
	}
	return out, nil
}

// at walks maps by name and lists by their first element.
func at(v any, keys ...string) any {
	for _, k := range keys {
		if list, ok := v.([]any); ok {
			if len(list) == 0 {
				return nil
			}
			v = list[0]
		}
		m, ok := v.(object)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

// Each set of values that should work, and the objects that it makes.
var good = map[string]struct {
	values string
	want   []string
}{
	"as it comes": {"", []string{"ConfigMap shop-walpurge", "Service shop-walpurge", "ServiceAccount shop-walpurge", "StatefulSet shop-walpurge"}},
	"everything": {`
replicas: 2
config:
  nats: {url: "nats://nats:4222", replicas: 3}
  http: {token_file: /run/secrets/walpurge/http}
env: [{name: VALKEY_URL, value: "valkey://v:6379"}]
secretFiles: {secret: walpurge-files}
setup: {enabled: true}
serviceMonitor: {enabled: true, labels: {team: web}}
rules:
  shop.yaml:
    rules: [{name: product, table: public.products, keys: ["product:{id}"]}]
  more.yaml: |
    rules: [] # as text
podAnnotations: {a: b}
nodeSelector: {disk: ssd}
persistence: {storageClass: fast}
`, []string{"ConfigMap shop-walpurge", "ConfigMap shop-walpurge-setup", "Job shop-walpurge-setup", "Service shop-walpurge", "ServiceAccount shop-walpurge", "ServiceMonitor shop-walpurge", "StatefulSet shop-walpurge"}},
	"no volume, and only what is purged is confirmed": {"persistence: {enabled: false}\nconfig: {stream: {confirm: purged}}",
		[]string{"ConfigMap shop-walpurge", "Service shop-walpurge", "ServiceAccount shop-walpurge", "StatefulSet shop-walpurge"}},
}

func TestRender(t *testing.T) {
	for name, c := range good {
		t.Run(name, func(t *testing.T) {
			objects, err := render(t, c.values)
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Sorted(maps.Keys(objects)); !slices.Equal(got, c.want) {
				t.Fatalf("made %q, want %q", got, c.want)
			}
			for kind, o := range objects {
				if strings.HasPrefix(kind, "ConfigMap") {
					daemonTakes(t, o)
				}
				if strings.HasPrefix(kind, "StatefulSet") || strings.HasPrefix(kind, "Job") {
					podIsSafe(t, kind, o)
				}
			}
			for probe, want := range map[string]string{"livenessProbe": "/-/healthy", "readinessProbe": "/-/ready"} {
				if got := at(objects["StatefulSet shop-walpurge"], "spec", "template", "spec", "containers", probe, "httpGet", "path"); got != want {
					t.Errorf("%s asks %v", probe, got)
				}
			}
		})
	}
}

// daemonTakes gives the files of a ConfigMap to the daemon's own check, laid out
// as the volume does.
func daemonTakes(t *testing.T, o object) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range o["data"].(object) {
		if rest, isRules := strings.CutPrefix(name, "rules."); isRules {
			name = "rules/" + rest
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text.(string)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "run", "./cmd/walpurge", "check", "--offline", "-c", filepath.Join(dir, "walpurge.yaml"))
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the daemon refuses the files: %s", out)
	}
}

func podIsSafe(t *testing.T, kind string, o object) {
	t.Helper()
	pod := at(o, "spec", "template", "spec")
	for _, c := range []struct {
		want any
		keys []string
	}{
		{true, []string{"securityContext", "runAsNonRoot"}},
		{"RuntimeDefault", []string{"securityContext", "seccompProfile", "type"}},
		{false, []string{"automountServiceAccountToken"}},
		{true, []string{"containers", "securityContext", "readOnlyRootFilesystem"}},
		{false, []string{"containers", "securityContext", "allowPrivilegeEscalation"}},
	} {
		if got := at(pod, c.keys...); got != c.want {
			t.Errorf("%s: %v is %v", kind, c.keys, got)
		}
	}
	// A file mounted by subPath never changes in a running pod.
	for _, m := range at(pod, "containers").([]any)[0].(object)["volumeMounts"].([]any) {
		if m.(object)["subPath"] != nil {
			t.Errorf("%s: %v", kind, m)
		}
	}
}

func TestChangedFileRestarts(t *testing.T) {
	sum := func(values string) any {
		objects, err := render(t, values)
		if err != nil {
			t.Fatal(err)
		}
		return at(objects["StatefulSet shop-walpurge"], "spec", "template", "metadata", "annotations", "checksum/config")
	}
	before := sum("")
	if before == nil || before == sum("config: {drain_timeout: 10s}") {
		t.Error("a changed walpurge.yaml does not restart the daemon")
	}
	if before != sum("rules: {other.yaml: {rules: []}}") {
		t.Error("changed rules restart the daemon, which reloads them")
	}
}

func TestRefusals(t *testing.T) {
	for values, want := range map[string]string{
		"replicas: 2":                    "nats.url",
		"persistence: {enabled: false}":  "emptyDir",
		"rules: null":                    "rules file",
		"rules: {a.yml: {rules: []}}":    ".yaml",
		"config: {data_dir: /data}":      "data_dir",
		"config: {rules: [a.yaml]}":      "config.rules",
		"config: {http: {listen: ':1'}}": "http.listen",
		"persistence: {enabled: false}\nconfig: {stream: {confirm: synced}}": "emptyDir",
	} {
		if _, err := render(t, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error about %s, got %v", values, want, err)
		}
	}
}

func TestLint(t *testing.T) {
	for name, c := range good {
		values, err := chartutil.ReadValues([]byte(c.values))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range lint.AllWithKubeVersion(chart, values, "web", &chartutil.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}).Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("%s: %s", name, m)
			}
		}
	}
}
