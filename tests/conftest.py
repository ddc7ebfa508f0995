"""Fixtures shared by all tests."""

import os

import pytest
