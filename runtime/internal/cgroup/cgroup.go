// SPDX-License-Identifier: Apache-2.0

// Package cgroup limits processes by Linux' control groups, version 1 and
// 2, through their files alone (https://docs.kernel.org/admin-guide/cgroup-v2.html and
// https://docs.kernel.org/admin-guide/cgroup-v1/).
//
// The root directory is a parameter, so that tests can use an ordinary directory. What
// the files mean can be tested there, what the kernel does with them not.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/slipway-dev/slipway/runtime"
)

// DefaultRoot is where the kernel's hierarchies are mounted.
const DefaultRoot = "/sys/fs/cgroup"

// Hierarchy is the mounted cgroups of a machine.
type Hierarchy struct {
	root string
	v2   bool
}

// controllers are those that limits need; in version 1 each has a hierarchy of its own.
var controllers = []string{"cpu", "memory", "pids"}

// Open finds out which version is mounted at root, and whether groups can be
// made there. ErrUnsupported: no, and why.
func Open(root string) (*Hierarchy, error) {
	h := &Hierarchy{root: root}
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		h.v2 = true
	}
	for _, dir := range h.dirs("slipway") {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("cgroups at %s: %w: %w", root, runtime.ErrUnsupported, err)
		}
		const write = 2
		if err := syscall.Access(dir, write); err != nil {
			return nil, fmt.Errorf("cgroups at %s: %w: write to %s: %w", root, runtime.ErrUnsupported, dir, err)
		}
	}
	if h.v2 {
		// A group's controllers are switched on in its parents.
		for _, dir := range []string{root, filepath.Join(root, "slipway")} {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+cpu +memory +pids"), 0o644); err != nil {
				return nil, fmt.Errorf("cgroups at %s: %w: %w", root, runtime.ErrUnsupported, err)
			}
		}
	}
	return h, nil
}

// V2 reports whether this is version 2.
func (h *Hierarchy) V2() bool { return h.v2 }

// dirs are the directories of one group.
func (h *Hierarchy) dirs(name string) []string {
	if h.v2 {
		return []string{filepath.Join(h.root, name)}
	}
	var list []string
	for _, c := range controllers {
		list = append(list, filepath.Join(h.root, c, name))
	}
	return list
}

// Group is one control group.
type Group struct {
	h    *Hierarchy
	name string
}

// Needed reports whether a group is needed to enforce the limits.
func Needed(r *runtime.Resources) bool {
	return r != nil && (r.MemoryLimit > 0 || r.CPUQuota > 0 || r.PidsLimit > 0 || r.CPUShares > 2 || len(r.Unified) > 0)
}

// Create makes a group with limits; one that is there is taken over.
func (h *Hierarchy) Create(name string, r *runtime.Resources) (*Group, error) {
	g := h.Group(name)
	for _, dir := range h.dirs(g.name) {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(fmt.Errorf("make cgroup: %w", err), g.Remove())
		}
	}
	if err := g.Apply(r); err != nil {
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// Group names a group that was made before.
func (h *Hierarchy) Group(name string) *Group { return &Group{h, filepath.Join("slipway", name)} }

// setting is a value for a file; controller is the directory in version 1.
type setting struct{ controller, file, value string }

// settings translates limits into files.
func (h *Hierarchy) settings(r *runtime.Resources) []setting {
	if r == nil {
		return nil
	}
	var list []setting
	add := func(controller, file string, value any) {
		list = append(list, setting{controller, file, fmt.Sprint(value)})
	}
	period := r.CPUPeriod
	if period == 0 {
		period = 100_000
	}
	if h.v2 {
		if r.CPUShares > 0 {
			add("", "cpu.weight", weight(r.CPUShares))
		}
		if r.CPUQuota > 0 {
			add("", "cpu.max", fmt.Sprintf("%d %d", r.CPUQuota, period))
		}
		if r.MemoryLimit > 0 {
			add("", "memory.max", r.MemoryLimit)
			add("", "memory.swap.max", 0)
		}
		if r.PidsLimit > 0 {
			add("", "pids.max", r.PidsLimit)
		}
		for _, file := range sortedKeys(r.Unified) {
			add("", file, r.Unified[file])
		}
		return list
	}
	if r.CPUShares > 0 {
		add("cpu", "cpu.shares", r.CPUShares)
	}
	if r.CPUQuota > 0 {
		add("cpu", "cpu.cfs_period_us", period)
		add("cpu", "cpu.cfs_quota_us", r.CPUQuota)
	}
	if r.MemoryLimit > 0 {
		add("memory", "memory.limit_in_bytes", r.MemoryLimit)
	}
	if r.PidsLimit > 0 {
		add("pids", "pids.max", r.PidsLimit)
	}
	return list
}

func sortedKeys(m map[string]string) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// weight maps shares, 2 to 262144, to a version 2 weight, 1 to 10000, as Kubernetes
// does (KEP-2254).
func weight(shares int64) int64 {
	shares = max(2, min(262_144, shares))
	return 1 + (shares-2)*9999/262_142
}

// Apply changes limits. Zero fields stay as they are.
func (g *Group) Apply(r *runtime.Resources) error {
	for _, s := range g.h.settings(r) {
		if strings.ContainsAny(s.file, "/\x00") {
			return fmt.Errorf("cgroup file %q: %w: want a file name", s.file, runtime.ErrInvalid)
		}
		path := filepath.Join(g.h.root, s.controller, g.name, s.file)
		err := os.WriteFile(path, []byte(s.value), 0o644)
		if errors.Is(err, fs.ErrNotExist) && s.file == "memory.swap.max" {
			continue // a kernel without swap accounting
		}
		if err != nil {
			return fmt.Errorf("set %s to %s: %w", s.file, s.value, err)
		}
	}
	return nil
}

// AddThread puts one thread into a version 1 group: what it starts is born there.
func (g *Group) AddThread(tid int) error { return g.add("tasks", tid) }

// Add puts a process with all its threads into the group.
func (g *Group) Add(pid int) error { return g.add("cgroup.procs", pid) }

func (g *Group) add(file string, id int) error {
	for _, dir := range g.h.dirs(g.name) {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(strconv.Itoa(id)), 0o644); err != nil {
			return fmt.Errorf("move %d into cgroup %s: %w", id, g.name, err)
		}
	}
	return nil
}

// Dir opens the directory of a version 2 group, into which a process can be cloned.
func (g *Group) Dir() (*os.File, error) { return os.Open(g.h.dirs(g.name)[0]) }

// Processes lists the processes in the group.
func (g *Group) Processes() ([]int, error) {
	b, err := os.ReadFile(filepath.Join(g.h.dirs(g.name)[0], "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var list []int
	for f := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil {
			list = append(list, pid)
		}
	}
	return list, nil
}

// OOMKilled reports whether the kernel killed a process of the group for its memory.
func (g *Group) OOMKilled() bool {
	path := filepath.Join(g.h.root, "memory", g.name, "memory.oom_control")
	if g.h.v2 {
		path = filepath.Join(g.h.root, g.name, "memory.events")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
			return f[1] != "0"
		}
	}
	return false
}

// Remove removes an empty group. It succeeds when there is none.
func (g *Group) Remove() error {
	var err error
	for _, dir := range g.h.dirs(g.name) {
		if e := os.Remove(dir); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove cgroup: %w", e))
		}
	}
	return err
}
