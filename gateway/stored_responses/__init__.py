"""Responses that clients may go on from: what was asked, what was answered, what came before."""
