module github.com/slipway-dev/slipway/reconcile/metrics

go 1.26.0

require (
	github.com/prometheus/client_golang v1.23.2
	github.com/slipway-dev/slipway v0.0.0
)

replace github.com/slipway-dev/slipway => ../..
