package nftables
import ("testing";"net/netip";"fmt";"time";"github.com/slipway-dev/slipway/netproxy")
func TestDump(t *testing.T){
 tr:=netproxy.NewTracker(netproxy.Node{Name:"n1"})
 tr.SetService(netproxy.Service{Namespace:"shop",Name:"web",ClusterIPs:[]netip.Addr{netip.MustParseAddr("10.96.0.10")}, ExternalPolicy: netproxy.Local, LoadBalancers: []netproxy.LoadBalancer{{Addr:netip.MustParseAddr("9.9.9.9")}}, SourceRanges: []netip.Prefix{netip.MustParsePrefix("1.2.0.0/16")},
  Ports: []netproxy.ServicePort{{Name:"http",Port:80,NodePort:30080}}})
 tr.SetEndpointSlice(netproxy.EndpointSlice{Namespace:"shop",Name:"web-1",Service:"web",Ports:[]netproxy.EndpointPort{{Name:"http",Port:8080}},
 Endpoints:[]netproxy.Endpoint{{Addr:netip.MustParseAddr("10.244.0.1"),Node:"n1"},{Addr:netip.MustParseAddr("10.244.0.2"),Node:"n2"},{Addr:netip.MustParseAddr("10.244.0.3"),Node:"n2"}}})
 tr.SetService(netproxy.Service{Namespace:"shop",Name:"aff",ClusterIPs:[]netip.Addr{netip.MustParseAddr("10.96.0.11")}, Affinity:time.Hour, Ports: []netproxy.ServicePort{{Name:"http",Port:80}}})
 tr.SetEndpointSlice(netproxy.EndpointSlice{Namespace:"shop",Name:"aff-1",Service:"aff",Ports:[]netproxy.EndpointPort{{Name:"http",Port:8080}},
 Endpoints:[]netproxy.Endpoint{{Addr:netip.MustParseAddr("10.244.0.1"),Node:"n1"},{Addr:netip.MustParseAddr("10.244.0.2"),Node:"n2"}}})
 rs,_:=New(netproxy.Config{PodCIDR:netip.MustParsePrefix("10.244.0.0/16")})
 rs.Update(tr.Changes())
 fmt.Print(rs.Text())
}
