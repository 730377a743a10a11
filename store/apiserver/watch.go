// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
)

// watcher is one watch over HTTP: the events of a store's watch, written as they
// come. What is there at once is written at once, with one flush.
type watcher struct {
	x         *exchange
	o         *op
	media     media
	bookmarks bool
	initial   bool // the client asked for the initial state and wants to know its end
	controls  *http.ResponseController
	buffer    *[]byte // while something waits to be written; from a pool
	headed    bool    // a table's columns have been sent
}

var (
	errWatchTime = errors.New("the watch has lasted as long as it may")
	errDraining  = errors.New("the server is shutting down")
)

func (x *exchange) watch(o *op) error {
	m, err := x.media(o.res)
	if err != nil {
		return err
	}
	if m.format == formatYAML {
		m.format = formatJSON
	}
	q := x.r.URL.Query()
	opts, err := watchOptions(o, q)
	if err != nil {
		return err
	}
	w := &watcher{x: x, o: o, media: m, bookmarks: isTrue(q.Get("allowWatchBookmarks")), initial: isTrue(q.Get("sendInitialEvents")),
		controls: http.NewResponseController(x.w.ResponseWriter)}
	if w.bookmarks {
		opts.Bookmarks = x.server.opts.Bookmarks
	}
	if x.server.draining() {
		return apierrors.NewServiceUnavailable(errDraining.Error())
	}
	ctx, stop, err := x.watchTime(q)
	if err != nil {
		return err
	}
	defer stop()
	if err := x.server.await(ctx, opts.From); err != nil {
		return err
	}
	x.server.metrics.watches.Add(1)
	defer x.server.metrics.watches.Add(-1)
	return w.run(ctx, opts)
}

// watchTime returns the context in which the watch lasts: as long as the client
// asks for, or the server's time, and no longer than the server serves.
func (x *exchange) watchTime(q url.Values) (context.Context, func(), error) {
	base := x.server.limits.Watch
	last := base + rand.N(base)
	if text := q.Get("timeoutSeconds"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("timeoutSeconds: %q is no number of seconds", text))
		}
		if n > 0 {
			last = time.Duration(n) * time.Second
		}
	}
	timed, cancelTimed := context.WithTimeoutCause(x.r.Context(), last, errWatchTime)
	ctx, cancel := context.WithCancelCause(timed)
	unhook := context.AfterFunc(x.server.drain, func() { cancel(errDraining) })
	return ctx, func() { unhook(); cancel(nil); cancelTimed() }, nil
}

// watchOptions say where the watch begins.
// See https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-watch
func watchOptions(o *op, q url.Values) (opts store.WatchOptions, err error) {
	opts.Namespace, opts.Name = o.key.Namespace, o.key.Name
	if opts.Labels, opts.Fields, err = selectors(o.res, q); err != nil {
		return opts, err
	}
	rev, err := parseVersion(q.Get("resourceVersion"))
	if err != nil {
		return opts, err
	}
	opts.From = rev
	send, match := q.Get("sendInitialEvents"), q.Get("resourceVersionMatch")
	var errs field.ErrorList
	switch {
	case send == "" && match != "":
		errs = append(errs, field.Forbidden(field.NewPath("resourceVersionMatch"), "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
	case send != "" && match != string(metav1.ResourceVersionMatchNotOlderThan):
		errs = append(errs, field.Forbidden(field.NewPath("resourceVersionMatch"), "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
	}
	if len(errs) > 0 {
		return opts, apierrors.NewInvalid(gvk{Group: "meta.k8s.io", Kind: "ListOptions"}.GroupKind(), "", errs)
	}
	opts.Initial = isTrue(send) || send == "" && rev == 0
	return opts, nil
}

func (w *watcher) run(ctx context.Context, opts store.WatchOptions) error {
	defer w.release()
	contentType := w.media.format.String()
	if w.media.format == formatProtobuf {
		contentType += ";stream=watch"
	}
	w.x.w.Header().Set("Content-Type", contentType)
	if err := w.begin(); err != nil {
		return nil // the client is gone
	}
	for ev, err := range w.x.server.store.Watch(ctx, w.o.res.schema, opts) {
		if err != nil {
			return w.end(ctx, err)
		}
		if err := w.add(&ev); err != nil {
			return err
		}
		if ev.More && len(*w.hold()) < flushAt {
			continue
		}
		if err := w.flush(); err != nil {
			return nil // the client is gone
		}
		if !ev.More {
			w.rest()
		}
	}
	return nil
}

// Each watcher that is written to costs a frame, a record of TLS and a system
// call: about 15 us, however much is written. Where events come faster than that
// can be paid for, they are gathered.
const (
	flushCost = 50 * time.Microsecond
	longRest  = 50 * time.Millisecond
)

// rest lets events gather before the watcher looks again, the longer the more
// watchers there are: an event after a pause is not delayed, and those of a burst
// go together. (1,000 watchers, writes as fast as they go: 21 us of processor time
// for each event delivered without it, 8 us with.)
func (w *watcher) rest() {
	pause := min(time.Duration(w.x.server.metrics.watches.Load())*flushCost, longRest)
	if pause >= time.Millisecond {
		time.Sleep(pause)
	}
}

// begin sends the headers before the first event, which may be long in coming.
func (w *watcher) begin() error {
	w.x.w.WriteHeader(http.StatusOK)
	return w.controls.Flush()
}

// end finishes the stream: cleanly where it has lasted its time, with an error
// event where it can't go on.
func (w *watcher) end(ctx context.Context, err error) error {
	if ctx.Err() != nil { // time, drain, or the client is gone
		return nil
	}
	st := asStatus(err, w.o.about()).status
	data, err := encode(statusKind, &st, w.media.format)
	if err != nil {
		return err
	}
	w.frame("ERROR", data)
	_ = w.flush() // it ends either way
	return nil
}

// flushAt is how many bytes are gathered at most before they are written: enough
// to share the cost of a flush, and no more than a thousand watchers can hold at
// once.
const flushAt = 32 << 10

var watchBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, 8<<10)) }}

// hold returns the buffer. An idle watcher has none.
func (w *watcher) hold() *[]byte {
	if w.buffer == nil {
		w.buffer = watchBuffers.Get().(*[]byte)
		*w.buffer = (*w.buffer)[:0]
	}
	return w.buffer
}

func (w *watcher) release() {
	if w.buffer != nil {
		watchBuffers.Put(w.buffer)
		w.buffer = nil
	}
}

// flush writes what was gathered. A client that does not take it in time is cut
// off: its place in the history would be lost anyway.
func (w *watcher) flush() error {
	defer w.release()
	if w.buffer == nil || len(*w.buffer) == 0 {
		return nil
	}
	if err := w.controls.SetWriteDeadline(time.Now().Add(w.x.server.limits.Write)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := w.x.w.Write(*w.buffer); err != nil {
		return err
	}
	if err := w.controls.Flush(); err != nil {
		return err
	}
	// HTTP/2 ends a stream whose deadline passes, idle or not; and the next request
	// on a connection of HTTP/1.1 would inherit it.
	if err := w.controls.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// add puts an event into the buffer.
func (w *watcher) add(ev *store.Event[store.Object]) error {
	switch ev.Type {
	case store.Synced:
		if w.initial && w.bookmarks {
			return w.bookmark(ev.Revision, map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		}
		return nil
	case store.Bookmark:
		return w.bookmark(ev.Revision, nil)
	}
	obj, shared := w.object(ev)
	data, err := w.encode(obj, shared)
	if err != nil {
		return err
	}
	w.frame(ev.Type.String(), data)
	return nil
}

// object returns what the event shows, and whether others are shown the same.
// What no longer matches is shown as it last did, at the revision of the change.
func (w *watcher) object(ev *store.Event[store.Object]) (store.Object, bool) {
	if ev.Type != store.Deleted || ev.Object.GetResourceVersion() == store.FormatRevision(ev.Revision) {
		return ev.Object, true
	}
	c := w.o.res.schema.Copy(ev.Object)
	c.SetResourceVersion(store.FormatRevision(ev.Revision))
	return c, false
}

func (w *watcher) encode(obj store.Object, shared bool) ([]byte, error) {
	switch w.media.as {
	case "Table":
		t, err := w.x.table(w.o, w.media, []store.Object{obj}, store.ListMeta{}, !w.headed)
		if err != nil {
			return nil, err
		}
		w.headed = true
		t.ResourceVersion = obj.GetResourceVersion()
		return encode(tableKind(w.media), t, w.media.format)
	case "PartialObjectMetadata", "PartialObjectMetadataList":
		return encode(partialKind(w.media), &metav1.PartialObjectMetadata{ObjectMeta: *partial(w.o.res, obj)}, w.media.format)
	}
	if shared {
		return w.x.server.encodings.of(w.o.res, obj, w.media.format)
	}
	return encode(w.o.res.gvk, obj, w.media.format)
}

// bookmark tells the revision that the client has seen everything up to.
func (w *watcher) bookmark(revision uint64, annotations map[string]string) error {
	meta := metav1.ObjectMeta{ResourceVersion: store.FormatRevision(revision), Annotations: annotations}
	var data []byte
	var err error
	switch {
	case w.media.as == "Table":
		t := &metav1.Table{}
		t.ResourceVersion = meta.ResourceVersion
		data, err = encode(tableKind(w.media), t, w.media.format)
	case w.media.as != "":
		data, err = encode(partialKind(w.media), &metav1.PartialObjectMetadata{ObjectMeta: meta}, w.media.format)
	case w.media.format == formatProtobuf:
		obj := w.o.res.new()
		obj.SetResourceVersion(meta.ResourceVersion)
		obj.SetAnnotations(annotations)
		data, err = encode(w.o.res.gvk, obj, formatProtobuf)
	default:
		if data, err = json.Marshal(map[string]any{"metadata": meta}); err == nil {
			data = append(append(appendKind(nil, w.o.res.gvk), ','), data[1:]...)
		}
	}
	if err != nil {
		return err
	}
	w.frame("BOOKMARK", data)
	return nil
}

// frame appends an event to the buffer: a line of JSON, or a message of protobuf
// with its length before it.
func (w *watcher) frame(eventType string, object []byte) {
	b := w.hold()
	if w.media.format != formatProtobuf {
		*b = append(append(append(*b, `{"type":"`...), eventType...), `","object":`...)
		*b = append(append(*b, object...), "}\n"...)
		return
	}
	ev := metav1.WatchEvent{Type: eventType, Object: runtime.RawExtension{Raw: object}}
	size := ev.Size()
	*b = binary.BigEndian.AppendUint32(*b, uint32(size))
	at := len(*b)
	*b = append(*b, make([]byte, size)...)
	if _, err := ev.MarshalTo((*b)[at:]); err != nil {
		panic(fmt.Sprintf("apiserver: a message of known size: %v", err))
	}
}
