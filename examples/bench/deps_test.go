package bench
import (
 _ "k8s.io/client-go/util/workqueue"
 _ "k8s.io/client-go/tools/cache"
 _ "sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
 _ "sigs.k8s.io/controller-runtime/pkg/cache"
 _ "github.com/slipway-dev/slipway/store"
)
