package iptables
import ("testing";"net/netip";"fmt";"github.com/slipway-dev/slipway/netproxy";"github.com/slipway-dev/slipway/netproxy/trace")
func TestQuick2(t *testing.T){
 tr:=netproxy.NewTracker(netproxy.Node{Name:"n1"})
 tr.SetService(netproxy.Service{Namespace:"shop",Name:"web",ClusterIPs:[]netip.Addr{netip.MustParseAddr("10.96.0.10")}, 
  Ports: []netproxy.ServicePort{{Name:"http",Port:80,NodePort:30080}}})
 tr.SetEndpointSlice(netproxy.EndpointSlice{Namespace:"shop",Name:"web-1",Service:"web",Ports:[]netproxy.EndpointPort{{Name:"http",Port:8080}},
 Endpoints:[]netproxy.Endpoint{{Addr:netip.MustParseAddr("10.244.0.1"),Node:"n1"},{Addr:netip.MustParseAddr("10.244.0.2"),Node:"n2"},{Addr:netip.MustParseAddr("10.244.0.3"),Node:"n2"}}})
 rs,_:=New(netproxy.Config{PodCIDR:netip.MustParsePrefix("10.244.0.0/16")})
 rs.Update(tr.Changes())
 w,err:=trace.Parse(rs.Save()); if err!=nil{t.Fatal(err)}
 w.Local=[]netip.Addr{netip.MustParseAddr("192.168.1.1")}
 for _,d:=range []string{"10.96.0.10:80","192.168.1.1:30080","10.96.0.10:81"}{
 r:=w.Trace(trace.Packet{In:"eth0",Src:netip.MustParseAddrPort("192.168.1.7:1234"),Dst:netip.MustParseAddrPort(d)})
 fmt.Println(r.String())
 for _,s:=range r.Outcomes[0].Steps{fmt.Println("   ",s)}
 }
}
