package iptables
import ("testing";"net/netip";"fmt";"github.com/slipway-dev/slipway/netproxy";"time")
func TestQuick(t *testing.T){
 tr:=netproxy.NewTracker(netproxy.Node{Name:"n1"})
 if err:=tr.SetService(netproxy.Service{Namespace:"shop",Name:"web",ClusterIPs:[]netip.Addr{netip.MustParseAddr("10.96.0.10")},Affinity: 3*time.Hour, ExternalPolicy: netproxy.Local, LoadBalancers: []netproxy.LoadBalancer{{Addr:netip.MustParseAddr("9.9.9.9")}}, SourceRanges: []netip.Prefix{netip.MustParsePrefix("1.2.0.0/16")},
  Ports: []netproxy.ServicePort{{Name:"http",Port:80,NodePort:30080}}});err!=nil{t.Fatal(err)}
 if err:=tr.SetEndpointSlice(netproxy.EndpointSlice{Namespace:"shop",Name:"web-1",Service:"web",Ports:[]netproxy.EndpointPort{{Name:"http",Port:8080}},
 Endpoints:[]netproxy.Endpoint{{Addr:netip.MustParseAddr("10.244.0.1"),Node:"n1"},{Addr:netip.MustParseAddr("10.244.0.2"),Node:"n2"},{Addr:netip.MustParseAddr("10.244.0.3"),Node:"n2"}}});err!=nil{t.Fatal(err)}
 rs,err:=New(netproxy.Config{PodCIDR:netip.MustParsePrefix("10.244.0.0/16")})
 if err!=nil{t.Fatal(err)}
 rs.Update(tr.Changes())
 fmt.Println(rs.Text())
 d:=string(rs.AppendDiff(nil)); fmt.Println(len(d), len(rs.Text()))
 tr.DeleteEndpointSlice("shop","web-1")
 rs.Update(tr.Changes())
 fmt.Println(string(rs.AppendDiff(nil)))
}
