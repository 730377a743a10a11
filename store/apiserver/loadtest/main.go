// SPDX-License-Identifier: Apache-2.0

// Command loadtest measures an API server: any that speaks Kubernetes' API, by
// its URL and a token, so that the same client measures ours and another.
//
//	go run ./store/apiserver/loadtest -serve 127.0.0.1:6443 &
//	go run ./store/apiserver/loadtest -url https://127.0.0.1:6443 -token secret -pid $!
//
// It creates pods of a scheduler that is not there, so that nothing else works,
// reads them one by one, lists them, and watches them with many watchers that
// read without decoding. With -pid it prints the server's processor time for
// each, and its memory. The namespace "load" must be empty, or not be there.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
)

func main() {
	var c client
	serveAt := flag.String("serve", "", "serve at this address in place of measuring; the token is \"secret\"")
	flag.StringVar(&c.url, "url", "https://127.0.0.1:6443", "of the API server")
	flag.StringVar(&c.token, "token", "secret", "bearer token")
	flag.IntVar(&c.pid, "pid", 0, "of the API server's process; 0: its processor time and memory are not known")
	pods := flag.Int("pods", 10000, "how many pods to create")
	clients := flag.Int("clients", 32, "requests in flight")
	watchers := flag.Int("watchers", 1000, "how many watchers")
	writes := flag.Int("writes", 100, "how many writes they watch")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *serveAt != "" {
		err = serve(ctx, *serveAt)
	} else {
		err = c.measure(ctx, *pods, *clients, *watchers, *writes)
	}
	if err != nil {
		log.Fatal(fmt.Errorf("loadtest: %w", err))
	}
}
