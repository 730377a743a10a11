// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/internal/feed"
)

// Options configure a fake. The zero value has all images, no latency and no faults.
type Options struct {
	// Script says what a container will do; nil: what its command says, see [Program].
	Script func(*runtime.PodSandboxConfig, *runtime.ContainerConfig) Behaviour
	// Before is called before each operation, without locks. It may wait until ctx
	// ends (latency), and an error that it returns is the answer of the operation.
	Before func(ctx context.Context, call Call) error
	// Image describes an image that can be pulled, or returns an error such as
	// one that wraps runtime.ErrNotFound; nil: every image exists.
	Image func(name string) (runtime.Image, error)
	// Addresses is where pod addresses are taken from; zero: 10.88.0.0/13.
	Addresses netip.Prefix
	// ImageFs is what ImageFsInfo answers; nil: 1 TiB, empty.
	ImageFs func() []runtime.FilesystemUsage
}

// Call is an operation that is about to happen. Fields that do not apply are empty.
type Call struct {
	Op        string // the name of the method, for example "CreateContainer"
	Pod       runtime.PodSandboxMetadata
	Container string // its name
	Image     string
}

// Runtime is a runtime.RuntimeService and a runtime.ImageService. It owns no goroutines.
type Runtime struct {
	options Options
	events  feed.Feed

	mu         sync.Mutex
	nextID     uint64
	nextIP     netip.Addr
	freeIPs    []netip.Addr
	sandboxes  map[string]*sandbox
	containers map[string]*container
	attempts   map[sandboxKey]*sandbox
	images     map[string]*runtime.Image
}

var (
	_ runtime.RuntimeService = (*Runtime)(nil)
	_ runtime.ImageService   = (*Runtime)(nil)
)

// New returns an empty runtime.
func New(o Options) *Runtime {
	if !o.Addresses.IsValid() {
		o.Addresses = netip.MustParsePrefix("10.88.0.0/13")
	}
	return &Runtime{
		options:    o,
		nextIP:     o.Addresses.Masked().Addr(),
		sandboxes:  map[string]*sandbox{},
		containers: map[string]*container{},
		attempts:   map[sandboxKey]*sandbox{},
		images:     map[string]*runtime.Image{},
	}
}

// before runs the hook, and refuses to begin when ctx has ended.
func (r *Runtime) before(ctx context.Context, call Call) error {
	if r.options.Before != nil {
		if err := r.options.Before(ctx, call); err != nil {
			return fmt.Errorf("%s: %w", call.Op, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", call.Op, err)
	}
	return nil
}

// Version names the fake.
func (r *Runtime) Version(ctx context.Context) (runtime.Version, error) {
	return runtime.Version{RuntimeName: "fake", RuntimeVersion: "1", RuntimeAPIVersion: "v1"}, r.before(ctx, Call{Op: "Version"})
}

// Status is always ready, unless Before says otherwise.
func (r *Runtime) Status(ctx context.Context) (runtime.Status, error) {
	if err := r.before(ctx, Call{Op: "Status"}); err != nil {
		return runtime.Status{}, err
	}
	return runtime.Status{Conditions: []runtime.Condition{
		{Type: runtime.RuntimeReady, Status: true}, {Type: runtime.NetworkReady, Status: true},
	}}, nil
}

// GetContainerEvents subscribes to the events of all containers.
func (r *Runtime) GetContainerEvents(ctx context.Context) (iter.Seq2[runtime.ContainerEvent, error], error) {
	if err := r.before(ctx, Call{Op: "GetContainerEvents"}); err != nil {
		return nil, err
	}
	return r.events.Subscribe(ctx), nil
}

// publish needs r.mu, so that events have the order of what they tell.
func (r *Runtime) publish(t runtime.EventType, c *container) {
	r.events.Publish(runtime.ContainerEvent{
		Type: t, ContainerID: c.id, SandboxID: c.sandbox.id, PodUID: c.sandbox.meta.UID, Time: time.Now(),
	})
}

// id needs r.mu.
func (r *Runtime) id() string {
	r.nextID++
	return strconv.FormatUint(r.nextID, 36)
}

// ip needs r.mu.
func (r *Runtime) ip() (netip.Addr, error) {
	if n := len(r.freeIPs); n > 0 {
		a := r.freeIPs[n-1]
		r.freeIPs = r.freeIPs[:n-1]
		return a, nil
	}
	if a := r.nextIP.Next(); r.options.Addresses.Contains(a) {
		r.nextIP = a
		return a, nil
	}
	return netip.Addr{}, fmt.Errorf("no free address in %v: %w", r.options.Addresses, runtime.ErrExhausted)
}
