// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// client sends requests to one server.
type client struct {
	url, token string
	pid        int
	http       *http.Client
}

func newHTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // it measures; it does not trust
		ForceAttemptHTTP2: true, DisableCompression: true, MaxIdleConnsPerHost: 64,
	}}
}

func (c *client) do(ctx context.Context, method, path string, body string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "loadtest/v1")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	return c.http.Do(r)
}

// call sends a request, reads the answer, and counts its bytes.
func (c *client) call(ctx context.Context, method, path, body string, codes ...int) (int64, error) {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if !slices.Contains(codes, resp.StatusCode) {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // as much of it as there is
		return 0, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return io.Copy(io.Discard, resp.Body)
}

// pod is about 2 KB once it is stored.
func pod(name string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":"load","labels":{"app":"load","tier":"backend","pod-template-hash":"6d4cf56db6"},
"annotations":{"example.com/checksum":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}},
"spec":{"schedulerName":"nobody","containers":[{"name":"main","image":"registry.example.com/team/app:v1.2.3","ports":[{"containerPort":8080,"name":"http"}],
"env":[{"name":"A","value":"some value"},{"name":"B","value":"another value"}],"resources":{"requests":{"cpu":"100m","memory":"128Mi"},"limits":{"memory":"256Mi"}},
"readinessProbe":{"httpGet":{"path":"/ready","port":8080},"periodSeconds":5}}]}}`, name)
}

const pods = "/api/v1/namespaces/load/pods"

func (c *client) measure(ctx context.Context, n, clients, watchers, writes int) error {
	c.http = newHTTP()
	if _, err := c.call(ctx, http.MethodPost, "/api/v1/namespaces", `{"metadata":{"name":"load"}}`, 201, 409); err != nil {
		return err
	}
	fmt.Printf("%-28s %v\n", "memory before", c.memory())
	err := c.phase(ctx, fmt.Sprintf("create, %d in flight", clients), n, clients, func(ctx context.Context, i int) error {
		_, err := c.call(ctx, http.MethodPost, pods, pod(fmt.Sprintf("p%06d", i)), 201)
		return err
	})
	if err != nil {
		return err
	}
	err = c.phase(ctx, fmt.Sprintf("get, %d in flight", clients), 4*n, clients, func(ctx context.Context, i int) error {
		_, err := c.call(ctx, http.MethodGet, fmt.Sprintf("%s/p%06d", pods, i%n), "", 200)
		return err
	})
	if err != nil {
		return err
	}
	if err := c.lists(ctx); err != nil {
		return err
	}
	fmt.Printf("%-28s %v\n", "memory", c.memory())
	if watchers > 0 {
		if err := c.watches(ctx, watchers, writes); err != nil {
			return err
		}
	}
	fmt.Println("waiting 30 s")
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(30 * time.Second):
	}
	fmt.Printf("%-28s %v\n", "memory 30 s after", c.memory())
	return nil
}

// phase carries out n requests, so many at a time, and prints what they cost.
func (c *client) phase(ctx context.Context, name string, n, clients int, f func(context.Context, int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	took := make([]time.Duration, n)
	var all sync.WaitGroup
	start, cpu := time.Now(), c.cpu()
	for range clients {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || failed.Load() != nil {
					return
				}
				begun := time.Now()
				if err := f(ctx, i); err != nil {
					failed.Store(&err)
					return
				}
				took[i] = time.Since(begun)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return fmt.Errorf("%s: %w", name, *err)
	}
	wall, used := time.Since(start), c.cpu()-cpu
	slices.Sort(took)
	fmt.Printf("%-28s %8.0f/s   %8.1f us server CPU each   p50 %v  p99 %v\n", name, float64(n)/wall.Seconds(),
		float64(used.Microseconds())/float64(n), took[n/2].Round(10*time.Microsecond), took[n*99/100].Round(10*time.Microsecond))
	return nil
}

func (c *client) lists(ctx context.Context) error {
	const rounds = 7
	var took []time.Duration
	var size int64
	cpu := c.cpu()
	for range rounds {
		begun := time.Now()
		n, err := c.call(ctx, http.MethodGet, pods, "", 200)
		if err != nil {
			return err
		}
		took, size = append(took, time.Since(begun)), n
	}
	slices.Sort(took)
	fmt.Printf("%-28s %8v    %8.1f ms server CPU each   %.1f MB, median of %d\n", "list of all", took[rounds/2].Round(time.Millisecond),
		float64((c.cpu()-cpu).Microseconds())/1000/rounds, float64(size)/1e6, rounds)
	return nil
}

// watches opens the watchers, makes the writes as fast as it can, and waits until
// every watcher has every event.
func (c *client) watches(ctx context.Context, watchers, writes int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var events atomic.Int64
	var ready, all sync.WaitGroup
	var failed atomic.Pointer[error]
	ready.Add(watchers)
	const perConnection = 100
	var of *client
	for i := range watchers {
		if i%perConnection == 0 {
			of = &client{c.url, c.token, c.pid, newHTTP()}
		}
		by := of
		all.Go(func() {
			if err := by.watch(ctx, &ready, &events); err != nil && ctx.Err() == nil {
				failed.Store(&err)
			}
		})
	}
	ready.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	start, cpu := time.Now(), c.cpu()
	if err := c.burst(ctx, writes); err != nil {
		return err
	}
	want := int64(watchers * writes)
	for deadline := time.Now().Add(time.Minute); events.Load() < want; {
		if time.Now().After(deadline) {
			return fmt.Errorf("after a minute, %d of %d events have come", events.Load(), want)
		}
		time.Sleep(time.Millisecond)
	}
	wall, used := time.Since(start), c.cpu()-cpu
	fmt.Printf("%-28s %8.0f/s   %8.2f us server CPU each   memory %v\n", fmt.Sprintf("events, %d watchers", watchers),
		float64(want)/wall.Seconds(), float64(used.Microseconds())/float64(want), c.memory())
	cancel()
	all.Wait()
	return nil
}

// burst makes so many writes as fast as it can, eight at a time.
func (c *client) burst(ctx context.Context, writes int) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(writes) && failed.Load() == nil; i = next.Add(1) - 1 {
				path := fmt.Sprintf("%s/p%06d", pods, i%100)
				if _, err := c.call(ctx, http.MethodPatch, path, fmt.Sprintf(`{"metadata":{"annotations":{"n":"%d"}}}`, i), 200); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// watch reads events without decoding them: each is a line.
func (c *client) watch(ctx context.Context, ready *sync.WaitGroup, events *atomic.Int64) error {
	ok := false
	defer func() {
		if !ok {
			ready.Done()
		}
	}()
	resp, err := c.do(ctx, http.MethodGet, pods+"?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("watch: " + resp.Status)
	}
	ok = true
	ready.Done()
	buf := make([]byte, 16<<10)
	for {
		n, err := resp.Body.Read(buf)
		events.Add(int64(bytes.Count(buf[:n], []byte("\n"))))
		if err != nil {
			return err
		}
	}
}

// cpu returns the processor time that the server has used.
func (c *client) cpu() time.Duration {
	if c.pid == 0 {
		return 0
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	var ticks int64
	for _, s := range f[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// memory returns the server's resident set.
func (c *client) memory() string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(data)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")))
			if err == nil {
				return fmt.Sprintf("%d MiB", n/1024)
			}
		}
	}
	return "unknown"
}
