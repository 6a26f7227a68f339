// Package participant is the runtime that a service embeds to take part in
// transactions, and the contract of the resource managers that do the work.
//
// A ResourceManager does the work of branches over its own data and keeps, in
// the same atomic writes, what the protocol must remember (P5, P6). Entry is
// the pure half of that: what may be done with a message, given what is
// remembered. Server does everything else, once for all resource managers: it
// serves concordat.v1.Participant, checks fences (P14), retries transient
// failures, repeats a decided branch until it succeeds, asks the cluster about
// branches in doubt (P7), forgets what the cluster has finished (P8), counts
// and alerts. It owns no file.
//
// Serve is all of a participant but its data, for a process of its own:
//
//	store, err := postgres.Open(ctx, postgres.Options{Name: "seats", DSN: dsn, Work: take})
//	err = participant.Serve(ctx, participant.Service{
//		Config: participant.Config{Name: "seats", ResourceManager: store}, Nodes: nodes, Listen: listen, Register: true,
//	})
//
// A process that has a gRPC server already registers a Server there:
//
//	cluster, err := participant.Dial(nodes)
//	server, err := participant.Open(ctx, participant.Config{Name: "seats", ResourceManager: rm, Cluster: cluster, …})
//	pb.RegisterParticipantServer(grpcServer, server)
//	defer server.Close()
//
// Open returns when the resource manager has named every branch that is still
// prepared, so that a service that listens afterwards never shows data without
// the locks of its branches in doubt.
//
// Threading: a Server may be used concurrently. Calls for one transaction id
// are made one after the other; calls for different ids run side by side.
package participant
