// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// logbook is a fleet with events and a recorder.
type logbook struct {
	*fleet
	events   *store.Handle[*reconcile.Event]
	recorder *reconcile.Recorder
	ship     *hull
}

// inBubble runs a test of a recorder in virtual time.
func inBubble(t *testing.T, opts reconcile.RecorderOptions, test func(*testing.T, *logbook)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		events := registerIn(t, f.st, reconcile.EventKind())
		l := &logbook{f, events, reconcile.NewRecorder(events, opts), f.hull("argo")}
		defer func() { must(t, l.recorder.Close(t.Context())) }()
		test(t, l)
	})
}

func (l *logbook) normal(reason, message string) {
	l.recorder.Normal(l.hulls.Schema(), l.ship, reason, "%s", message)
}

// expect waits until the recorder is at rest and compares what is stored, as
// "type reason message count".
func (l *logbook) expect(want ...string) {
	l.Helper()
	synctest.Wait()
	got := []string{}
	for e, err := range l.events.List(l.Context()) {
		must(l.T, err)
		got = append(got, fmt.Sprintf("%s %s %s %d", e.Type, e.Reason, e.Message, e.Count))
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(append([]string{}, want...), got); d != "" {
		l.Errorf("events (-want +got):\n%s", d)
	}
}

func TestRecorderCounts(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{Component: "builder", Host: "node-1"}, func(t *testing.T, l *logbook) {
		start := time.Now()
		l.normal("Launched", "into the sea")
		l.expect("Normal Launched into the sea 1")
		time.Sleep(time.Minute)
		l.normal("Launched", "into the sea")
		l.recorder.Warning(l.hulls.Schema(), l.ship, "Launched", "into the %s", "sea") // another type, another event
		l.expect("Normal Launched into the sea 2", "Warning Launched into the sea 1")
		for e, err := range l.events.List(l.Context(), store.ListOptions{Fields: reconcile.EventsAbout(l.ship.UID)}) {
			must(l.T, err)
			if e.Type != reconcile.EventNormal {
				continue
			}
			if !e.FirstTimestamp.Equal(start) || !e.LastTimestamp.Equal(start.Add(time.Minute)) {
				t.Errorf("from %v to %v", e.FirstTimestamp, e.LastTimestamp)
			}
			want := reconcile.ObjectReference{Kind: "Hull", APIVersion: "sea.example.com/v1", Namespace: "sea", Name: "argo", UID: l.ship.UID, ResourceVersion: l.ship.ResourceVersion}
			if e.InvolvedObject != want || e.Namespace != "sea" || !strings.HasPrefix(e.Name, "argo.") {
				t.Errorf("%s about %+v", store.KeyOf(e), e.InvolvedObject)
			}
			if e.Source != (reconcile.EventSource{Component: "builder", Host: "node-1"}) || e.ReportingController != "builder" || e.ReportingInstance != "node-1" {
				t.Errorf("by %+v, %s, %s", e.Source, e.ReportingController, e.ReportingInstance)
			}
		}
	})
}

// TestRecorderSimilar puts further messages of a reason together, until it has
// been quiet about it for a while.
func TestRecorderSimilar(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{Similar: 2}, func(t *testing.T, l *logbook) {
		for i := range 5 {
			l.normal("Leaking", fmt.Sprint("in plank ", i))
		}
		l.normal("Leaking", "in plank 0") // known
		l.normal("Sailing", "on")         // another reason
		want := []string{"Normal Leaking in plank 0 2", "Normal Leaking in plank 1 1",
			"Normal Leaking (combined from similar events): in plank 4 3", "Normal Sailing on 1"}
		l.expect(want...)
		time.Sleep(10*time.Minute + 1)
		l.normal("Leaking", "in plank 7")
		l.expect(append(want, "Normal Leaking in plank 7 1")...)
	})
}

// TestRecorderLimit bounds the writes about one object, and catches up on the
// count.
func TestRecorderLimit(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{Burst: 3, Refill: time.Minute}, func(t *testing.T, l *logbook) {
		for range 10 {
			l.normal("Leaking", "badly")
			synctest.Wait()
		}
		l.expect("Normal Leaking badly 3")
		if s := l.recorder.Stats(); s != (reconcile.RecorderStats{Recorded: 10, Written: 3, Limited: 7}) {
			t.Errorf("%+v", s)
		}
		other := l.hull("other")
		l.recorder.Normal(l.hulls.Schema(), other, "Leaking", "badly") // has tokens of its own
		time.Sleep(time.Minute)
		l.normal("Leaking", "badly")
		l.expect("Normal Leaking badly 11", "Normal Leaking badly 1")
	})
}

// TestRecorderCoalesces writes once what happened many times while a write was
// under way.
func TestRecorderCoalesces(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{}, func(t *testing.T, l *logbook) {
		gate := &gatedEvents{EventWriter: l.events, open: make(chan struct{})}
		r := reconcile.NewRecorder(gate, reconcile.RecorderOptions{})
		start := time.Now()
		for range 1000 {
			r.Normal(l.hulls.Schema(), l.ship, "Leaking", "badly")
		}
		if time.Since(start) != 0 {
			t.Error("the recorder held up its caller")
		}
		close(gate.open)
		must(t, r.Close(t.Context()))
		l.expect("Normal Leaking badly 1000")
		if s := r.Stats(); s.Written > 2 {
			t.Errorf("%+v, want at most 2 writes", s)
		}
	})
}

// gatedEvents holds up every write until it is opened, or fails it.
type gatedEvents struct {
	reconcile.EventWriter
	open chan struct{}
	mu   sync.Mutex
	fail []error // the next writes fail so
}

func (g *gatedEvents) pass(ctx context.Context) error {
	select {
	case <-g.open:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.fail) == 0 {
		return nil
	}
	err := g.fail[0]
	g.fail = g.fail[1:]
	return err
}

func (g *gatedEvents) Create(ctx context.Context, e *reconcile.Event, opts ...store.WriteOptions) (*reconcile.Event, error) {
	err := g.pass(ctx)
	if err != nil && !errors.Is(err, store.ErrUnknownOutcome) {
		return nil, err
	}
	o, e2 := g.EventWriter.Create(ctx, e, opts...)
	return o, errors.Join(err, e2)
}

func (g *gatedEvents) Patch(ctx context.Context, key store.Key, change func(*reconcile.Event) error, opts ...store.WriteOptions) (*reconcile.Event, error) {
	if err := g.pass(ctx); err != nil {
		return nil, err
	}
	return g.EventWriter.Patch(ctx, key, change, opts...)
}

func TestRecorderTriesAgain(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{}, func(t *testing.T, l *logbook) {
		broken := errors.New("the network is down")
		gate := &gatedEvents{EventWriter: l.events, open: make(chan struct{}), fail: []error{
			broken,                       // the create of the first event
			nil, store.ErrUnknownOutcome, // a patch, in case it was there, and a create that took place
			broken, nil, // patches
			store.ErrInvalid, // the second event is refused for good
		}}
		close(gate.open)
		var log strings.Builder
		r := reconcile.NewRecorder(gate, reconcile.RecorderOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		r.Normal(l.hulls.Schema(), l.ship, "First", "x")
		time.Sleep(time.Hour)
		l.expect("Normal First x 1")
		r.Normal(l.hulls.Schema(), l.ship, "Second", "x")
		r.Normal(l.hulls.Schema(), l.ship, "Third", "x")
		time.Sleep(time.Hour)
		l.expect("Normal First x 1", "Normal Third x 1")
		must(t, r.Close(t.Context()))
		if s := r.Stats(); s != (reconcile.RecorderStats{Recorded: 3, Written: 2, Dropped: 1}) || !strings.Contains(log.String(), "reason=Second") {
			t.Errorf("%+v, log %s", s, &log)
		}
	})
}

// TestRecorderGivesUp drops what fails again and again, and not what waits behind
// it.
func TestRecorderGivesUp(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{}, func(t *testing.T, l *logbook) {
		gate := &gatedEvents{EventWriter: l.events, open: make(chan struct{})}
		for range 12 {
			gate.fail = append(gate.fail, errors.New("down"))
		}
		close(gate.open)
		r := reconcile.NewRecorder(gate, reconcile.RecorderOptions{})
		r.Normal(l.hulls.Schema(), l.ship, "First", "x")
		time.Sleep(time.Hour)
		r.Normal(l.hulls.Schema(), l.ship, "Second", "x")
		must(t, r.Close(t.Context()))
		l.expect("Normal Second x 1")
		if s := r.Stats(); s.Dropped != 1 || s.Written != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestRecorderBounds keeps to its memory, and says what it dropped.
func TestRecorderBounds(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{}, func(t *testing.T, l *logbook) {
		gate := &gatedEvents{EventWriter: l.events, open: make(chan struct{})}
		r := reconcile.NewRecorder(gate, reconcile.RecorderOptions{Pending: 5, Memory: 5})
		for i := range 100 {
			r.Normal(l.hulls.Schema(), l.hull(fmt.Sprint("h-", i)), "Built", "x")
		}
		if s := r.Stats(); s.Pending != 5 || s.Dropped != 95 {
			t.Errorf("%+v", s)
		}
		close(gate.open)
		must(t, r.Close(t.Context()))
		l.expect(slices.Repeat([]string{"Normal Built x 1"}, 5)...)
		r.Normal(l.hulls.Schema(), l.ship, "Late", "x")
		if s := r.Stats(); s.Dropped != 96 {
			t.Errorf("after Close: %+v", s)
		}
		must(t, r.Close(t.Context()))
	})
}

// TestRecorderCloseGivesUp returns when its context ends, with its goroutine
// ended (or the bubble would not end), and says what is lost.
func TestRecorderCloseGivesUp(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{}, func(t *testing.T, l *logbook) {
		r := reconcile.NewRecorder(&gatedEvents{EventWriter: l.events, open: make(chan struct{})}, reconcile.RecorderOptions{})
		r.Normal(l.hulls.Schema(), l.ship, "First", "x")
		r.Normal(l.hulls.Schema(), l.ship, "Second", "x")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := r.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 events were not written") {
			t.Errorf("error %v", err)
		}
		if s := r.Stats(); s.Dropped != 2 || s.Pending != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestRecorderExpiry has events expire after they last happened, by leases of
// which there are few.
func TestRecorderExpiry(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{TTL: 8 * time.Hour}, func(t *testing.T, l *logbook) {
		l.normal("Once", "x")
		for range 10 {
			l.normal("Often", "x")
			time.Sleep(time.Hour)
		}
		l.expect("Normal Often x 10") // Once was an hour of lease, and eight of its time to live
		time.Sleep(9 * time.Hour)
		l.expect()
		l.normal("Often", "x") // created anew: the recorder remembers the count, and the store nothing
		l.expect("Normal Often x 11")
	})
	inBubble(t, reconcile.RecorderOptions{TTL: -1}, func(t *testing.T, l *logbook) {
		l.normal("Once", "x")
		time.Sleep(1000 * time.Hour)
		l.expect("Normal Once x 1")
	})
}

// TestRecorderNames has two recorders at one instant, which would give their
// events one name.
func TestRecorderNames(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{}, func(t *testing.T, l *logbook) {
		second := reconcile.NewRecorder(l.events, reconcile.RecorderOptions{Component: "other"})
		l.normal("A", "x")
		synctest.Wait()
		second.Normal(l.hulls.Schema(), l.ship, "A", "x")
		second.Normal(l.hulls.Schema(), l.ship, "B", "x")
		l.expect("Normal A x 1", "Normal A x 1", "Normal B x 1")
		must(t, second.Close(t.Context()))
	})
}

func TestRecorderClusterScoped(t *testing.T) {
	inBubble(t, reconcile.RecorderOptions{}, func(t *testing.T, l *logbook) {
		y, err := l.yards.Create(t.Context(), &yard{Meta: store.Meta{Name: strings.Repeat("y", 253)}})
		must(t, err)
		l.recorder.Normal(l.yards.Schema(), y, "Opened", "%s", strings.Repeat("é", 1000))
		synctest.Wait()
		n := 0
		for e, err := range l.events.List(t.Context(), store.ListOptions{Namespace: "default"}) {
			must(t, err)
			if n++; len(e.Name) > 253 || len(e.Message) > 1024 || !strings.HasSuffix(e.Message, "é…") {
				t.Errorf("name of %d bytes, message of %d: …%s", len(e.Name), len(e.Message), e.Message[len(e.Message)-10:])
			}
		}
		if n != 1 {
			t.Errorf("%d events in the default namespace: %+v", n, l.recorder.Stats())
		}
	})
}

func TestRecorderBadInput(t *testing.T) {
	var log strings.Builder
	inBubble(t, reconcile.RecorderOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, l *logbook) {
		l.recorder.Normal(l.hulls.Schema(), (*hull)(nil), "Launched", "x")
		l.recorder.Normal(l.hulls.Schema(), nil, "Launched", "x")
		l.recorder.Normal(l.hulls.Schema(), newPlank("p"), "Launched", "x")
		l.recorder.Normal(nil, l.ship, "Launched", "x")
		l.normal("", "x")
		l.normal("not a word", "x")
		l.expect()
		if s := l.recorder.Stats(); s.Dropped != 6 {
			t.Errorf("%+v", s)
		}
		for _, text := range []string{"the object is nil", "schema of the object's kind is nil", `reason \"not a word\"`} {
			if !strings.Contains(log.String(), text) {
				t.Errorf("no %q in the log:\n%s", text, &log)
			}
		}
	})
}

// TestEventJSON reads and writes an event as Kubernetes does.
func TestEventJSON(t *testing.T) {
	const text = `{"metadata":{"name":"web.1","namespace":"default","creationTimestamp":"2026-01-02T03:04:05Z"},` +
		`"involvedObject":{"kind":"Pod","namespace":"default","name":"web","uid":"1","apiVersion":"v1","resourceVersion":"7","fieldPath":"spec.containers{web}"},` +
		`"reason":"Pulled","message":"Container image pulled","source":{"component":"kubelet","host":"node-1"},` +
		`"firstTimestamp":"2026-01-02T03:04:05Z","lastTimestamp":"2026-01-02T03:04:06Z","count":2,"type":"Normal",` +
		`"eventTime":"2026-01-02T03:04:05.000006Z","series":{"count":3,"lastObservedTime":"2026-01-02T03:04:05.123456Z"},` +
		`"action":"Pull","related":{"kind":"Node","name":"node-1"},"reportingComponent":"kubelet","reportingInstance":"node-1"}`
	var e reconcile.Event
	must(t, json.Unmarshal([]byte(text), &e))
	got, err := json.Marshal(e.DeepCopy())
	must(t, err)
	if string(got) != text {
		t.Errorf("%s\nwant\n%s", got, text)
	}
	must(t, json.Unmarshal([]byte(`{"eventTime":null}`), &e))
	if !e.EventTime.IsZero() {
		t.Errorf("null is %v", e.EventTime)
	}
	for _, bad := range []string{`{"eventTime":7}`, `{"eventTime":"yesterday"}`} {
		if json.Unmarshal([]byte(bad), &e) == nil {
			t.Errorf("%s was read", bad)
		}
	}
	if _, err := json.Marshal(reconcile.MicroTime{Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("the year 10000 was written")
	}
}

// TestRecorderConcurrently loses no count.
func TestRecorderConcurrently(t *testing.T) {
	f := newFleet(t)
	events := registerIn(t, f.st, reconcile.EventKind())
	r := reconcile.NewRecorder(events, reconcile.RecorderOptions{Burst: 1e6})
	h := f.hull("h")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				r.Normal(f.hulls.Schema(), h, "Again", "x")
			}
		})
	}
	all.Wait()
	must(t, r.Close(t.Context()))
	for e, err := range events.List(t.Context()) {
		if must(t, err); e.Count != 8000 {
			t.Errorf("counted %d times, want 8000", e.Count)
		}
	}
}
