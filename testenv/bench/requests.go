package main
func requests(*bench) {}
