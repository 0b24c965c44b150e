from .module import Module, Parameter
