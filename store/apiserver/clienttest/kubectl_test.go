// SPDX-License-Identifier: Apache-2.0

package clienttest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/clienttest"
	"github.com/slipway-dev/slipway/store/memory"
)

// kubectl is a built kubectl with a server to talk to.
type kubectl struct {
	t      *testing.T
	binary string
	env    []string
	dir    string
	server *clienttest.Instance
	store  store.Store
}

func newKubectl(t *testing.T) *kubectl {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "kubectl")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X k8s.io/component-base/version.gitVersion=v1.36.6", "-o", binary, "./kubectl")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build kubectl: %v\n%s", err, out)
	}
	st := memory.New(memory.Options{})
	t.Cleanup(func() { st.Close() })
	var logged syncBuffer
	server, err := clienttest.Start(t.Context(), st, "", slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
		if text := logged.String(); text != "" {
			t.Errorf("the server logged errors:\n%s", text)
		}
	})
	config := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(config, server.Kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + dir, "KUBECONFIG=" + config, "PATH=" + os.Getenv("PATH"), "KUBECTL_COMMAND_HEADERS=false"}
	return &kubectl{t, binary, env, dir, server, st}
}

// run runs kubectl and returns what it printed on both outputs, and whether it
// succeeded.
func (k *kubectl) run(stdin string, args ...string) (string, bool) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.binary, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = k.env, k.dir, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		k.t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return string(out), err == nil
}

// step is one command and what it must say. A line of args is split at spaces.
type step struct {
	args  string
	stdin string
	fails bool
	want  []string // each must be in the output
	not   string   // must not be in it
}

func (k *kubectl) play(steps []step) {
	k.t.Helper()
	for _, s := range steps {
		out, ok := k.run(s.stdin, strings.Fields(s.args)...)
		if ok == s.fails {
			k.t.Errorf("kubectl %s: succeeded is %v:\n%s", s.args, ok, out)
		}
		for _, w := range s.want {
			if !strings.Contains(out, w) && !strings.Contains(strings.Join(strings.Fields(out), " "), w) { // tables are padded
				k.t.Errorf("kubectl %s: want %q in\n%s", s.args, w, out)
			}
		}
		if s.not != "" && strings.Contains(out, s.not) {
			k.t.Errorf("kubectl %s: %q must not be in\n%s", s.args, s.not, out)
		}
	}
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "nginx:1", ports: [{containerPort: 80}]}
`

const backup = `
apiVersion: example.com/v1
kind: Backup
metadata: {name: db}
spec: {source: "pg://x", keep: 3}
`

func TestKubectl(t *testing.T) {
	if testing.Short() {
		t.Skip("builds kubectl: a minute where it is not cached")
	}
	k := newKubectl(t)
	with := func(text, from, to string) string { return strings.Replace(text, from, to, 1) }
	t.Run("looking around", func(t *testing.T) {
		k.t = t
		k.play([]step{
			{args: "version", want: []string{"Server Version: v1.36."}},
			{args: "api-resources", want: []string{"pods po v1 true Pod", "backups bk example.com/v1 true Backup"}},
			{args: "api-versions", want: []string{"apps/v1", "example.com/v1", "v1"}},
			{args: "get --raw /readyz", want: []string{"ok"}},
			{args: "get --raw /metrics", want: []string{"apiserver_request_total"}},
			{args: "get namespaces", want: []string{"NAME", "STATUS", "AGE", "default", "kube-system", "Active"}},
			{args: "explain pod.spec.containers.image", want: []string{"FIELD: image <string>", "Container image name."}},
			{args: "explain backup.spec", want: []string{"What is wanted.", "keep", "How many copies are kept.", "-required-"}},
			{args: "explain deployment --recursive", want: []string{"progressDeadlineSeconds"}},
			{args: "auth can-i create pods", want: []string{"yes"}},
			{args: "auth can-i create pods --as=bob", fails: true, want: []string{"no"}},
			{args: "auth can-i --list --as=bob", want: []string{"selfsubjectaccessreviews.authorization.k8s.io"}},
			{args: "auth whoami", want: []string{"admin", "system:masters"}},
			{args: "cluster-info", want: []string{"control plane", k.server.URL}},
		})
	})
	t.Run("built-in kinds", func(t *testing.T) {
		k.t = t
		k.play([]step{
			{args: "create serviceaccount default", want: []string{"serviceaccount/default created"}}, // protobuf
			{args: "create configmap a --from-literal=k=v", want: []string{"configmap/a created"}},
			{args: "create configmap a --from-literal=k=v", fails: true, want: []string{`configmaps "a" already exists`}},
			{args: "get configmap a -o yaml", want: []string{"k: v", "kind: ConfigMap", "apiVersion: v1"}},
			{args: "get configmap nope", fails: true, want: []string{`Error from server (NotFound): configmaps "nope" not found`}},
			{args: "describe configmap a", want: []string{"Name:         a", "BinaryData"}},
			{args: "create secret generic s --from-literal=k=v", want: []string{"secret/s created"}},
			{args: "get secrets", want: []string{"Opaque"}},
			{args: "run nginx --image=nginx --port=80", want: []string{"pod/nginx created"}},
			{args: "get pods -o wide", want: []string{"NOMINATED NODE", "0/1", "Pending"}},
			{args: "get pods --field-selector=status.phase=Pending -o name", want: []string{"pod/nginx"}},
			{args: "get pods --field-selector=status.phase=Running", want: []string{"No resources found"}},
			{args: "get pods --field-selector=no.such=field", fails: true, want: []string{"BadRequest", "field label not supported: no.such"}},
			{args: "get pods -l run=nginx -L run --show-labels", want: []string{"LABELS", "run=nginx"}},
			{args: "get pods -A -o json", want: []string{`"kind": "List"`, `"name": "nginx"`}},
			{args: "describe pod nginx", want: []string{"QoS Class:", "BestEffort", "node.kubernetes.io/not-ready:NoExecute op=Exists for 300s"}},
			{args: "label pod nginx tier=front", want: []string{"pod/nginx labeled"}},
			{args: "annotate pod nginx note=x", want: []string{"pod/nginx annotated"}},
			{args: `patch pod nginx --type=json -p [{"op":"test","path":"/metadata/labels/tier","value":"back"}]`, fails: true, want: []string{"testing value /metadata/labels/tier failed"}},
			{args: `patch pod nginx -p {"spec":{"containers":[{"name":"nginx","image":"nginx:2"}]}}`, want: []string{"pod/nginx patched"}},
			{args: `patch pod nginx -p {"spec":{"hostNetwork":true}}`, fails: true, want: []string{"is invalid", "pod updates may not change fields other than"}},
			{args: "wait --for=jsonpath={.metadata.labels.tier}=front pod/nginx --timeout=5s", want: []string{"condition met"}},
			{args: "delete pod nginx", want: []string{`pod "nginx" deleted`}},
			{args: "create job j --image=x", want: []string{"job.batch/j created"}},
			{args: "get jobs", want: []string{"Running", "0/1"}},
			{args: "create cronjob cj --image=x --schedule=@daily", want: []string{"cronjob.batch/cj created"}},
			{args: "create role r --verb=get --resource=pods", want: []string{"role.rbac.authorization.k8s.io/r created"}},
			{args: "create rolebinding rb --role=r --user=bob", want: []string{"created"}},
			{args: "auth can-i get pods --as=bob", want: []string{"yes"}},
			{args: "get pods --as=bob", fails: true, want: []string{`User "bob" cannot list resource "pods" in API group "" in the namespace "default"`}},
			{args: "create token default", want: []string{"eyJ"}},
			{args: "create quota q --hard=pods=1", want: []string{"resourcequota/q created"}},
			{args: "run one --image=x"},
			{args: "run two --image=x", fails: true, want: []string{"exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"}},
			{args: "get quota", want: []string{"pods: 1/1"}},
			{args: "delete quota q"},
			{args: "get events", want: []string{"No resources found"}},
		})
	})
	t.Run("workloads", func(t *testing.T) {
		k.t = t
		k.play([]step{
			{args: "apply -f -", stdin: deployment, want: []string{"deployment.apps/web created"}},
			{args: "apply -f -", stdin: deployment, want: []string{"unchanged"}},
			{args: "diff -f -", stdin: with(deployment, "nginx:1", "nginx:2"), fails: true, want: []string{"+      - image: nginx:2"}},
			{args: "apply -f -", stdin: with(deployment, "nginx:1", "nginx:2"), want: []string{"configured"}},
			{args: "apply -f - --dry-run=server", stdin: deployment, want: []string{"configured (server dry run)"}},
			{args: "get deployment web -o jsonpath={.spec.template.spec.containers[0].image}", want: []string{"nginx:2"}},
			{args: "apply -f -", stdin: with(deployment, "image:", "imagine:"), fails: true, want: []string{"strict decoding error", `unknown field "spec.template.spec.containers[0].imagine"`}},
			{args: "apply -f -", stdin: with(deployment, "matchLabels: {app: web}", "matchLabels: {app: x}"), fails: true,
				want: []string{"spec.selector: Invalid value", "field is immutable"}},
			{args: "scale deployment web --replicas=5", want: []string{"scaled"}},
			{args: "get deployments", want: []string{"0/5", "UP-TO-DATE"}},
			{args: "set image deployment/web c=nginx:3", want: []string{"image updated"}},
			{args: "apply --server-side -f -", stdin: deployment, fails: true, want: []string{"conflict", `.spec.template.spec.containers[name="c"].image`}},
			{args: "apply --server-side --force-conflicts -f -", stdin: deployment, want: []string{"serverside-applied"}},
			{args: "get deployment web -o yaml --show-managed-fields", want: []string{`k:{"containerPort":80,"protocol":"TCP"}:`, "manager: kubectl", "operation: Apply"}},
			{args: "rollout restart deployment web", want: []string{"restarted"}},
			{args: "rollout status deployment web --timeout=1s", fails: true, want: []string{"Waiting for deployment"}},
			{args: "rollout history deployment web", want: []string{"deployment.apps/web"}},
			{args: "autoscale deployment web --max=3", want: []string{"autoscaled"}},
			{args: "expose deployment web --port=80", want: []string{"service/web exposed"}},
			{args: "get all", want: []string{"deployment.apps/web", "service/web", "horizontalpodautoscaler.autoscaling/web"}},
			{args: "describe deployment web", want: []string{"RollingUpdateStrategy:  25% max unavailable, 25% max surge"}},
			{args: "delete deployment web --cascade=orphan --wait=false", want: []string{"deleted"}},
			{args: "get deployment web -o jsonpath={.metadata.finalizers}", want: []string{"orphan"}},
		})
	})
	t.Run("own kind", func(t *testing.T) {
		k.t = t
		k.play([]step{
			{args: "apply -f -", stdin: backup, want: []string{"backup.example.com/db created"}},
			{args: "apply -f -", stdin: with(backup, "keep: 3", "keep: 4"), want: []string{"configured"}},
			{args: "apply -f -", stdin: with(backup, "keep: 3", "keep: 4"), want: []string{"unchanged"}},
			{args: "get bk", want: []string{"NAME   PHASE   AGE"}},
			{args: "get bk -o wide", want: []string{"SOURCE", "pg://x"}},
			{args: "apply -f -", stdin: with(backup, "pg://x", "pg://y"), fails: true, want: []string{"spec.source: Invalid value", "field is immutable"}},
			{args: "apply -f -", stdin: with(with(backup, "pg://x", ""), "db", "other"), fails: true, want: []string{"spec.source: Required value: say where the data comes from"}},
			{args: "apply --validate=false -f -", stdin: with(backup, "keep: 3", "keep: many"), fails: true, want: []string{"BadRequest", "cannot be handled as a Backup", "keep"}},
			{args: "scale backup db --replicas=7", want: []string{"scaled"}},
			{args: "get bk db -o jsonpath={.spec.keep}", want: []string{"7"}},
			{args: `patch bk db --subresource=status --type=merge -p {"status":{"phase":"Done"},"spec":{"keep":1}}`, want: []string{"patched"}},
			{args: "get bk db -o jsonpath={.spec.keep}{.status.phase}", want: []string{"7Done"}},
			{args: `patch bk db --type=merge -p {"status":{"phase":"No"}}`, want: []string{"no change"}},
			{args: "apply --server-side --force-conflicts -f -", stdin: backup, want: []string{"serverside-applied"}},
			{args: "label bk db a=b", want: []string{"labeled"}},
			{args: "describe bk db", want: []string{"Kind:         Backup", "Phase:  Done"}},
			{args: "delete bk db", want: []string{"deleted"}},
			{args: "get bk", want: []string{"No resources found"}},
		})
	})
	t.Run("watch", func(t *testing.T) {
		k.t = t
		k.watch()
	})
	t.Run("namespace", func(t *testing.T) {
		k.t = t
		k.play([]step{
			{args: "create namespace demo", want: []string{"created"}},
			{args: "create configmap a -n nope", fails: true, want: []string{`namespaces "nope" not found`}},
			{args: "delete namespace default", fails: true, want: []string{"this namespace may not be deleted"}},
			{args: "delete namespace demo --wait=false", want: []string{"deleted"}},
			{args: "get namespace demo", want: []string{"Terminating"}},
			{args: "create configmap a -n demo", fails: true, want: []string{"because it is being terminated"}},
			{args: "replace --raw /api/v1/namespaces/demo/finalize -f -", stdin: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"demo"},"spec":{}}`},
			{args: "get namespace demo", fails: true, want: []string{"NotFound"}},
		})
	})
}

// watch follows changes with kubectl get --watch while they are made.
func (k *kubectl) watch() {
	ctx, cancel := context.WithCancel(k.t.Context())
	defer cancel()
	var out syncBuffer
	cmd := exec.CommandContext(ctx, k.binary, "get", "bk", "--watch")
	cmd.Env, cmd.Stdout, cmd.Stderr = k.env, &out, &out
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }() // killed
	wait := func(want string) {
		k.t.Helper()
		for range 200 {
			if strings.Contains(out.String(), want) {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		k.t.Fatalf("kubectl get --watch: want %q in\n%s", want, out.String())
	}
	k.play([]step{{args: "apply -f -", stdin: backup}})
	wait("db")
	k.play([]step{{args: `patch bk db --subresource=status --type=merge -p {"status":{"phase":"Done"}}`}})
	wait("Done")
	k.play([]step{{args: "delete bk db"}})
}

// syncBuffer is a buffer for several writers and readers.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
