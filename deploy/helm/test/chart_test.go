// Package chart_test renders the chart as helm does. It is a module of its own,
// because helm needs more modules than all of walpurge does.
package chart_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	core "k8s.io/api/core/v1"
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
		return nil, err
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

// Each set of values that should work, by its name in the table of docs/install.md, and the objects that it makes.
var good = map[string]struct {
	values string
	want   []string
}{
	"plain": {"", []string{"ConfigMap shop-walpurge", "Service shop-walpurge", "ServiceAccount shop-walpurge", "StatefulSet shop-walpurge"}},
	"everything": {`
replicas: 2
config:
  nats: {url: "nats://nats:4222", replicas: 3}
  http: {token_file: /run/secrets/walpurge/http}
env: [{name: VALKEY_URL, value: "valkey://v:6379"}]
secretFiles: {secret: walpurge-files}
setup: {enabled: true}
warm: {enabled: true, timeZone: Europe/Berlin, sitemap: 'https://shop.example/sitemap.xml', sink: hot, rate: 2.5}
serviceMonitor: {enabled: true, labels: {team: web}}
rules:
  shop.yaml:
    rules: [{name: product, table: public.products, keys: ["product:{id}"]}]
  more.yaml: |
    rules: [] # as text
podAnnotations: {a: b}
nodeSelector: {disk: ssd}
persistence: {storageClass: fast}
`, []string{"ConfigMap shop-walpurge", "ConfigMap shop-walpurge-setup", "CronJob shop-walpurge-warm", "Job shop-walpurge-setup", "Service shop-walpurge", "ServiceAccount shop-walpurge", "ServiceMonitor shop-walpurge", "StatefulSet shop-walpurge"}},
	"OpenShift": {"podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}", []string{"ConfigMap shop-walpurge", "Service shop-walpurge", "ServiceAccount shop-walpurge", "StatefulSet shop-walpurge"}},
	"leader Service": {"replicas: 2\nconfig: {nats: {url: 'nats://nats:4222'}}\nleaderService: {enabled: true}\nserviceMonitor: {enabled: true}",
		[]string{"ConfigMap shop-walpurge", "Role shop-walpurge", "RoleBinding shop-walpurge", "Service shop-walpurge", "Service shop-walpurge-leader",
			"ServiceAccount shop-walpurge", "ServiceMonitor shop-walpurge", "StatefulSet shop-walpurge"}},
	"IPv6 only": {"service: {ipFamilyPolicy: SingleStack, ipFamilies: [IPv6]}\nconfig: {sinks: {cache: {valkey: {url: 'valkey://[fd00::7]:6379/0'}}}}",
		[]string{"ConfigMap shop-walpurge", "Service shop-walpurge", "ServiceAccount shop-walpurge", "StatefulSet shop-walpurge"}},
	"dependency of another chart": {"global: {a: b}\nenabled: true\ntags: {backend: true}",
		[]string{"ConfigMap shop-walpurge", "Service shop-walpurge", "ServiceAccount shop-walpurge", "StatefulSet shop-walpurge"}},
	"no volume": {"persistence: {enabled: false}\nconfig: {stream: {confirm: purged}}",
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

// The command gets what the values say, the files of the daemon, and no variable of the database.
func TestWarm(t *testing.T) {
	objects, err := render(t, good["everything"].values)
	if err != nil {
		t.Fatal(err)
	}
	job := objects["CronJob shop-walpurge-warm"]
	pod := at(job, "spec", "jobTemplate", "spec", "template", "spec")
	want := []any{"warm", "-c", "/etc/walpurge/walpurge.yaml", "--sitemap", "https://shop.example/sitemap.xml", "--sink", "hot", "--rate", "2.5"}
	if got := at(pod, "containers", "args"); !reflect.DeepEqual(got, want) {
		t.Errorf("args: %v", got)
	}
	if got := at(job, "spec", "timeZone"); got != "Europe/Berlin" {
		t.Errorf("time zone: %v", got)
	}
	if got := at(pod, "containers", "env", "name"); got != "VALKEY_URL" {
		t.Errorf("env: %v", got)
	}
	daemon := at(objects["StatefulSet shop-walpurge"], "spec", "template", "spec")
	if got, want := at(pod, "securityContext"), at(daemon, "securityContext"); got == nil || !reflect.DeepEqual(got, want) {
		t.Errorf("security context: %v", got)
	}
}

// OpenShift chooses the IDs itself and refuses pods that name others.
func TestSecurityContextsAreSetByTheUser(t *testing.T) {
	pods := func(values string) []any {
		objects, err := render(t, "setup: {enabled: true}\nsecretFiles: {secret: files}\n"+values)
		if err != nil {
			t.Fatal(err)
		}
		return []any{at(objects["StatefulSet shop-walpurge"], "spec", "template", "spec"), at(objects["Job shop-walpurge-setup"], "spec", "template", "spec")}
	}
	for _, pod := range pods("podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}") {
		want := object{"runAsNonRoot": true, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": object{"type": "RuntimeDefault"}}
		if got := at(pod, "securityContext"); !reflect.DeepEqual(got, want) {
			t.Errorf("OpenShift: %v", got)
		}
		if got := at(pod, "containers", "securityContext", "allowPrivilegeEscalation"); got != false {
			t.Errorf("OpenShift: the container has %v", got)
		}
		for _, v := range at(pod, "volumes").([]any) {
			if mode := at(v, "secret", "defaultMode"); mode != nil && mode != float64(0o444) {
				t.Errorf("without fsGroup only root could read the secret's files: mode %v", mode)
			}
		}
	}
	for _, pod := range pods("podSecurityContext: null\nsecurityContext: null") {
		if pod.(object)["securityContext"] != nil || at(pod, "containers", "securityContext") != nil {
			t.Errorf("null leaves %v and %v", at(pod, "securityContext"), at(pod, "containers", "securityContext"))
		}
	}
	for _, pod := range pods("podSecurityContext: {runAsUser: 1000, supplementalGroups: [7]}\nsecurityContext: {seccompProfile: {type: Localhost, localhostProfile: p.json}}") {
		if at(pod, "securityContext", "runAsUser") != float64(1000) || at(pod, "securityContext", "supplementalGroups") == nil ||
			at(pod, "containers", "securityContext", "seccompProfile", "type") != "Localhost" || at(pod, "containers", "securityContext", "readOnlyRootFilesystem") != true {
			t.Errorf("own values: %v and %v", at(pod, "securityContext"), at(pod, "containers", "securityContext"))
		}
	}
}

// The schema lists what Kubernetes knows, so that only what it does not know is refused.
func TestSchemaKnowsTheFieldsOfKubernetes(t *testing.T) {
	text, err := os.ReadFile(chart + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema object
	if err := yaml.UnmarshalStrict(text, &schema); err != nil {
		t.Fatal(err)
	}
	for key, of := range map[string]reflect.Type{
		"podSecurityContext": reflect.TypeFor[core.PodSecurityContext](), "securityContext": reflect.TypeFor[core.SecurityContext](),
		"resources": reflect.TypeFor[core.ResourceRequirements](),
	} {
		var want []string
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			want = append(want, name)
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(at(schema, "properties", key, "properties").(object))); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %q, Kubernetes has %q", key, got, want)
		}
	}
	values, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var defaults object
	if err := yaml.UnmarshalStrict(values, &defaults); err != nil {
		t.Fatal(err)
	}
	for key := range defaults {
		if at(schema, "properties", key) == nil {
			t.Errorf("values.yaml has %s, which values.schema.json does not know", key)
		}
	}
}

func TestLeaderService(t *testing.T) {
	objects, err := render(t, good["leader Service"].values)
	if err != nil {
		t.Fatal(err)
	}
	if got := at(objects["Service shop-walpurge-leader"], "spec", "selector", "walpurge.io/leader"); got != "true" {
		t.Errorf("it selects the label %v", got)
	}
	if got := at(objects["Role shop-walpurge"], "rules", "resourceNames"); !reflect.DeepEqual(got, []any{"shop-walpurge-0", "shop-walpurge-1"}) {
		t.Errorf("the role may patch %v", got)
	}
	pod := at(objects["StatefulSet shop-walpurge"], "spec", "template", "spec").(object)
	if !strings.Contains(fmt.Sprint(at(pod, "containers", "env")), "WALPURGE_POD") || !strings.Contains(fmt.Sprint(pod["volumes"]), "serviceAccountToken") {
		t.Errorf("the daemon cannot label its pod: %v", pod)
	}
	if at(objects["StatefulSet shop-walpurge"], "spec", "template", "metadata", "labels", "walpurge.io/leader") != nil {
		t.Error("every pod has the label from the start")
	}
	plain, err := render(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(plain["StatefulSet shop-walpurge"]); strings.Contains(text, "serviceAccountToken") {
		t.Error("without the leader's Service the pod gets a token")
	}
}

// Large transactions are spooled below data_dir, which must be the volume.
func TestSpoolLiesOnTheVolume(t *testing.T) {
	for _, values := range []string{"", "config: {nats: {url: 'nats://nats:4222'}}", "config: {nats: {url: 'nats://nats:4222'}}\npersistence: {enabled: false}"} {
		objects, err := render(t, values)
		if err != nil {
			t.Fatal(err)
		}
		set := objects["StatefulSet shop-walpurge"]
		if !strings.Contains(fmt.Sprint(at(set, "spec", "template", "spec", "containers", "volumeMounts")), "mountPath:/var/lib/walpurge name:data") {
			t.Errorf("%s: data_dir is no volume", values)
		}
		if !strings.Contains(at(objects["ConfigMap shop-walpurge"], "data", "walpurge.yaml").(string), "data_dir: /var/lib/walpurge\n") {
			t.Errorf("%s: data_dir is elsewhere", values)
		}
		if strings.Contains(fmt.Sprint(at(set, "spec", "template", "spec", "volumes")), "Memory") {
			t.Errorf("%s: a volume in memory counts against the limit of the pod", values)
		}
	}
}

// A pod that stands by names the one that leads, so each pod publishes where it is reached.
func TestPodsAdvertiseTheirAddress(t *testing.T) {
	for values, want := range map[string]string{
		"setup: {enabled: true}": "advertise: '[${WALPURGE_POD_IP}]:7468'\n",
		"setup: {enabled: true}\nconfig: {http: {token_file: /run/secrets/walpurge/http}}": "advertise: '[${WALPURGE_POD_IP}]:7468'\n",
		"setup: {enabled: true}\nconfig: {http: {advertise: 'https://walpurge.example'}}":  "advertise: https://walpurge.example\n",
	} {
		objects, err := render(t, values)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"StatefulSet shop-walpurge", "Job shop-walpurge-setup"} {
			if env := fmt.Sprint(at(objects[kind], "spec", "template", "spec", "containers", "env")); !strings.Contains(env, "fieldPath:status.podIP") {
				t.Errorf("%s: the file names a variable that its pod does not have: %s", kind, env)
			}
		}
		for _, kind := range []string{"ConfigMap shop-walpurge", "ConfigMap shop-walpurge-setup"} {
			if text := at(objects[kind], "data", "walpurge.yaml").(string); !strings.Contains(text, want) || !strings.Contains(text, "listen: :7468\n") {
				t.Errorf("%s: want %s, got\n%s", kind, want, text)
			}
		}
	}
}

// An address of one family would not be reached on clusters that have the other one only.
func TestListensOnBothFamilies(t *testing.T) {
	objects, err := render(t, good["IPv6 only"].values)
	if err != nil {
		t.Fatal(err)
	}
	if text := at(objects["ConfigMap shop-walpurge"], "data", "walpurge.yaml").(string); !strings.Contains(text, "listen: :7468\n") {
		t.Errorf("the daemon listens elsewhere:\n%s", text)
	}
	if got := at(objects["Service shop-walpurge"], "spec", "ipFamilies"); !reflect.DeepEqual(got, []any{"IPv6"}) {
		t.Errorf("the Service has %v", got)
	}
}

func TestRefusals(t *testing.T) {
	for values, want := range map[string]string{
		"replicas: 2":                       "nats.url",
		"replica: 2":                        "replica",
		"image: {name: x}":                  "name",
		"persistence: {enable: true}":       "enable",
		"podSecurityContext: {runAsUsr: 1}": "runAsUsr",
		"securityContext: {fsGroup: 1}":     "fsGroup",
		"securitycontext: {runAsUser: 1}":   "securitycontext",
		"setup: {databaseURL: {name: x}}":   "name",
		"warm: {enabled: true}":             "warm.sitemap",
		"warm: {enabled: true, urls: x}":    "urls",
		"service: {port: '7468'}":           "port",
		"leaderService: {enabled: 'yes'}":   "enabled",
		"env: [{name: A, valeu: x}]":        "valeu",
		"resources: {limit: {memory: 1Gi}}": "limit",
		"podLabels: {a: 1}":                 "podLabels",
		"persistence: {enabled: false}":     "emptyDir",
		"rules: null":                       "rules file",
		"rules: {a.yml: {rules: []}}":       ".yaml",
		"config: {data_dir: /data}":         "data_dir",
		"config: {rules: [a.yaml]}":         "config.rules",
		"config: {http: {listen: ':1'}}":    "http.listen",
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
