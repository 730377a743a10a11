// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/crilog"
	"github.com/slipway-dev/slipway/runtime/internal/cgroup"
	"github.com/slipway-dev/slipway/runtime/internal/feed"
)

// node is the supervisor's state: the sandboxes and containers of one root directory.
type node struct {
	options Options
	lock    *os.File // held as long as the process lives
	events  feed.Feed

	// children is held while a process is started, so that its exit can't be seen before it is known.
	children sync.Mutex
	waiting  map[int]chan<- int // by PID, who wants the exit code
	reaped   chan struct{}      // see nextReaped

	mu         sync.Mutex
	journal    *journal
	live       int64 // size of the journal after it was last rewritten
	sandboxes  map[string]*sandbox
	containers map[string]*container
	addresses  map[netip.Addr]bool
	nextIP     netip.Addr
	spare      []string // directories that the next sandboxes can have, see takeDir
	behind     bool     // the journal lacks changes, since the disk was full
	clients    map[net.Conn]bool
	listeners  map[*os.File]bool // of system calls, see redirect

	wg sync.WaitGroup // of all goroutines but the one that reaps
}

type sandbox struct {
	sandboxRecord
	addr       netip.Addr
	closing    bool // it is being stopped
	containers []*container
}

type container struct {
	containerRecord
	sandbox *sandbox
	started chan struct{} // while a start is in progress, which closes it
	ending  bool          // its process has ended, and what goes with it is being cleaned up
	done    chan struct{} // closed when it has exited; nil before it runs
	log     *crilog.Log
	streams *streams
}

func newNode(o Options, lock *os.File) *node {
	prefix := o.addresses()
	return &node{
		options: o, lock: lock, waiting: map[int]chan<- int{},
		sandboxes: map[string]*sandbox{}, containers: map[string]*container{},
		addresses: map[netip.Addr]bool{}, nextIP: prefix.Addr(),
		clients: map[net.Conn]bool{}, listeners: map[*os.File]bool{},
	}
}

// addresses are by default 65,536 of 127.64.0.0/10, picked by the root directory, so that several
// nodes on one machine get along.
func (o Options) addresses() netip.Prefix {
	if o.Addresses.IsValid() {
		return o.Addresses.Masked()
	}
	h := fnv.New32a()
	h.Write([]byte(o.Root))
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127, byte(64 + h.Sum32()%64), 0, 0}), 16)
}

func newID() string {
	b := make([]byte, 12)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// takeIP needs n.mu. Addresses are used in turn, so that one that was given back rests for long.
func (n *node) takeIP() (netip.Addr, error) {
	prefix := n.options.addresses()
	for a, first := n.nextIP.Next(), true; ; a = a.Next() {
		if !prefix.Contains(a) {
			if !first {
				return netip.Addr{}, fmt.Errorf("no free address in %v: %w", prefix, runtime.ErrExhausted)
			}
			a, first = prefix.Addr().Next(), false
		}
		if !n.addresses[a] {
			n.addresses[a], n.nextIP = true, a
			return a, nil
		}
	}
}

func (n *node) runSandbox(config *runtime.PodSandboxConfig) (string, error) {
	m := config.Metadata
	if m.Name == "" || m.UID == "" {
		return "", fmt.Errorf("run sandbox: %w: Metadata needs a name and a UID", runtime.ErrInvalid)
	}
	for _, p := range config.PortMappings {
		if p.HostPort != 0 && config.Namespaces.Network != runtime.NamespaceNode {
			return "", fmt.Errorf("run sandbox of pod %s: host port %d: %w: use the pod's address, or the machine's network", m.UID, p.HostPort, runtime.ErrUnsupported)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sandboxes {
		if s.Config.Metadata.UID == m.UID && s.Config.Metadata.Attempt == m.Attempt {
			return "", fmt.Errorf("run sandbox: attempt %d of pod %s is sandbox %s: %w", m.Attempt, m.UID, s.ID, runtime.ErrAlreadyExists)
		}
	}
	s := &sandbox{sandboxRecord: sandboxRecord{ID: newID(), Config: *config, State: runtime.SandboxReady, CreatedAt: time.Now()}}
	if config.Namespaces.Network != runtime.NamespaceNode && !n.options.NoAddresses {
		addr, err := n.takeIP()
		if err != nil {
			return "", fmt.Errorf("run sandbox of pod %s: %w", m.UID, err)
		}
		s.addr, s.IP = addr, addr.String()
	}
	err := n.takeDir(s)
	if err == nil {
		err = n.write(entry{Sandbox: &s.sandboxRecord})
	}
	if err != nil {
		delete(n.addresses, s.addr)
		n.keepDir(s)
		return "", fmt.Errorf("run sandbox of pod %s: %w", m.UID, err)
	}
	n.sandboxes[s.ID] = s
	return s.ID, nil
}

// write records something new, or fails. It needs n.mu.
func (n *node) write(e entry) error {
	if n.behind || n.journal.size > compactAt && n.journal.size > 2*n.live {
		if err := n.compact(); err != nil {
			return err
		}
	}
	return n.journal.write(e)
}

// note records a change of what is recorded. It can't fail: what has happened has happened, and a
// container must be stopped and removed also when the disk is full. The journal is made up for with the next record;
// a supervisor that is killed before then has an older state, in which nothing runs that did not. It needs n.mu.
func (n *node) note(e entry) {
	if n.write(e) != nil {
		n.behind = true
	}
}

// compact needs n.mu.
func (n *node) compact() error {
	var live []entry
	for _, s := range n.sandboxes {
		live = append(live, entry{Sandbox: &s.sandboxRecord})
	}
	for _, c := range n.containers {
		live = append(live, entry{Container: &c.containerRecord})
	}
	j, err := rewriteJournal(filepath.Join(n.options.Root, journalName), live)
	if err != nil {
		return err
	}
	if n.journal != nil {
		n.journal.file.Close()
	}
	n.journal, n.live, n.behind = j, j.size, false
	return nil
}

// recover takes in the journal of the supervisor before this one. Its processes have lost
// their pipes and their parent, so they are killed: what restarts them knows that they ended.
func (n *node) recover() error {
	err := readJournal(filepath.Join(n.options.Root, journalName), n.apply)
	if err != nil {
		return err
	}
	var groups []string
	for _, c := range n.containers {
		if cgroup.Needed(c.Resources) && c.State != runtime.ContainerExited {
			groups = append(groups, c.ID)
		}
		if c.State != runtime.ContainerRunning {
			continue
		}
		if s, ok := readStat(c.PID); ok && c.Born.has(s.start) {
			syscall.Kill(-c.PID, syscall.SIGKILL)
			syscall.Kill(c.PID, syscall.SIGKILL)
		}
		c.State, c.ExitCode, c.Reason, c.FinishedAt = runtime.ContainerExited, 137, runtime.ReasonError, time.Now()
		c.Message = "the supervisor of the node was killed, and its processes with it"
	}
	if err := n.sweepDirs(); err != nil {
		return err
	}
	if len(n.containers) == 0 {
		return n.compact()
	}
	// Also one that was started and not yet written down, and what left its process group.
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		found, unsure := n.killMarked(pids(), func(id string) bool { return true })
		if !found && !(unsure && time.Since(begin) < execWait) || time.Since(begin) > strayWait {
			break
		}
	}
	for _, name := range groups {
		n.endCgroup(name)
	}
	return n.compact()
}

// apply replays one line.
func (n *node) apply(e entry) {
	switch {
	case e.Sandbox != nil:
		s := &sandbox{sandboxRecord: *e.Sandbox}
		if s.IP != "" {
			s.addr, _ = netip.ParseAddr(s.IP)
			n.addresses[s.addr] = true
			n.nextIP = s.addr
		}
		n.sandboxes[s.ID] = s
	case e.Container != nil:
		if s := n.sandboxes[e.Container.SandboxID]; s != nil {
			c := &container{containerRecord: *e.Container, sandbox: s}
			n.containers[c.ID] = c
			s.containers = append(s.containers, c)
		}
	case e.State != nil:
		if c := n.containers[e.ID]; c != nil {
			c.containerState = *e.State
		}
	case e.Stopped:
		if s := n.sandboxes[e.ID]; s != nil {
			n.release(s)
		}
	case e.Gone:
		if c := n.containers[e.ID]; c != nil {
			n.drop(c)
		}
		if s := n.sandboxes[e.ID]; s != nil {
			n.forget(s)
		}
	}
}

// release takes from a sandbox what another may get. It needs n.mu.
func (n *node) release(s *sandbox) {
	if s.addr.IsValid() {
		delete(n.addresses, s.addr)
	}
	s.State, s.addr, s.IP, s.Dir = runtime.SandboxNotReady, netip.Addr{}, "", ""
}

// drop needs n.mu.
func (n *node) drop(c *container) {
	delete(n.containers, c.ID)
	c.sandbox.containers = slices.DeleteFunc(c.sandbox.containers, func(o *container) bool { return o == c })
}

// killMarked kills the processes of containers of this root, whichever IDs match, wherever they
// have gone: they carry the mark in their environment. It reports whether there were any, and whether there are
// processes without an environment: they have none, or are in the middle of an exec.
func (n *node) killMarked(pids []int, match func(id string) bool) (found, unsure bool) {
	for _, pid := range pids {
		if pid == os.Getpid() {
			continue
		}
		value, ok := marked(pid, envContainer)
		if !ok {
			s, alive := readStat(pid)
			unsure = unsure || alive && s.state != 'Z' && s.rss > 0 // threads of the kernel have no memory
			continue
		}
		if root, id, ok := splitMark(value); ok && root == n.options.Root && match(id) {
			syscall.Kill(pid, syscall.SIGKILL)
			found = true
		}
	}
	return found, unsure
}

// mark names a container on this machine.
func (n *node) mark(id string) string { return id + "@" + n.options.Root }

func splitMark(s string) (root, id string, ok bool) {
	for i := range len(s) {
		if s[i] == '@' {
			return s[i+1:], s[:i], true
		}
	}
	return "", "", false
}

func (n *node) stopSandbox(ctx context.Context, id string) error {
	s, err := n.killSandbox(ctx, id)
	if s == nil || err != nil {
		return err
	}
	if err := n.clear(s); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.State == runtime.SandboxNotReady {
		return nil
	}
	n.release(s)
	n.note(entry{ID: id, Stopped: true})
	return nil
}

// killSandbox ends the containers of a sandbox. It returns nil if there is no such sandbox.
func (n *node) killSandbox(ctx context.Context, id string) (*sandbox, error) {
	n.mu.Lock()
	s := n.sandboxes[id]
	var list []*container
	if s != nil {
		s.closing = true // nothing is created or started any more
		list = slices.Clone(s.containers)
	}
	n.mu.Unlock()
	for _, c := range list {
		if err := n.stop(ctx, c.ID, 0); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (n *node) removeSandbox(ctx context.Context, id string) error {
	s, err := n.killSandbox(ctx, id)
	if s == nil || err != nil {
		return err
	}
	if err := n.clear(s); err != nil { // the journal has the sandbox until that is done
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sandboxes[id] == nil {
		return nil
	}
	n.forget(s)
	n.note(entry{ID: id, Gone: true})
	return nil
}

// forget needs n.mu.
func (n *node) forget(s *sandbox) {
	for _, c := range slices.Clone(s.containers) {
		n.drop(c)
		n.publish(runtime.EventDeleted, c)
	}
	n.release(s)
	delete(n.sandboxes, s.ID)
}

func (s *sandbox) summary() runtime.PodSandbox {
	return runtime.PodSandbox{
		ID: s.ID, Metadata: s.Config.Metadata, State: s.State, CreatedAt: s.CreatedAt,
		Labels: s.Config.Labels, Annotations: s.Config.Annotations, RuntimeHandler: s.Config.RuntimeHandler,
	}
}

func (n *node) sandboxStatus(id string) (*runtime.PodSandboxStatus, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.sandboxes[id]
	if s == nil {
		return nil, fmt.Errorf("sandbox %q: %w", id, runtime.ErrNotFound)
	}
	st := &runtime.PodSandboxStatus{PodSandbox: s.summary(), Namespaces: s.Config.Namespaces}
	if s.IP != "" {
		st.IPs = []string{s.IP}
	}
	return st, nil
}

func (n *node) listSandboxes(f runtime.PodSandboxFilter) []runtime.PodSandbox {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []runtime.PodSandbox
	for _, s := range n.sandboxes {
		if p := s.summary(); f.Matches(&p) {
			list = append(list, p)
		}
	}
	return list
}

func (n *node) publish(t runtime.EventType, c *container) {
	n.events.Publish(runtime.ContainerEvent{
		Type: t, ContainerID: c.ID, SandboxID: c.SandboxID, PodUID: c.sandbox.Config.Metadata.UID, Time: time.Now(),
	})
}
