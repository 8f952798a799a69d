@echo off
rem Takes sessionip out of this Windows: the service is stopped and removed, then its
rem files. Run it as administrator. Configuration, leases and log stay, unless it is
rem run as: uninstall.cmd -Purge
setlocal EnableExtensions DisableDelayedExpansion
set "to=%ProgramFiles%\sessionip"
set "data=%ProgramData%\sessionip"
set purge=
if /i "%~1"=="-Purge" set purge=yes
if not "%~1"=="" if not defined purge (
    echo usage: uninstall.cmd [-Purge] 1>&2
    exit /b 1
)

rem It may be half gone: what is in the bundle does as well.
set "sessionip=%to%\sessionip.exe"
if not exist "%sessionip%" set "sessionip=%~dp0sessionip.exe"
if not exist "%sessionip%" (
    echo sessionip.exe is neither in "%to%" nor beside this script. 1>&2
    exit /b 1
)
rem Refused to whoever is no administrator, before anything is done.
"%sessionip%" service uninstall || (
    echo Nothing was removed. This script is to be run as administrator. 1>&2
    exit /b 1
)

set left=
if exist "%to%\" (
    del /q "%to%\*.old" >nul 2>&1
    if exist "%to%\*.old" set left=yes
    for %%F in (sessionip.exe sessionip_hook.dll sessionip_hook32.dll sessionip_inject32.exe sessionip_inject64.exe WinDivert.dll WinDivert64.sys README.txt NOTICE LICENSE-MIT LICENSE-APACHE LICENSE-WinDivert THIRD-PARTY.txt) do (
        if exist "%to%\%%F" del /q "%to%\%%F" >nul 2>&1
        if exist "%to%\%%F" set left=yes
    )
    rd "%to%" 2>nul
)
if defined purge (
    if exist "%data%\" rd /s /q "%data%"
    if exist "%data%\" (
        echo Cannot remove "%data%". 1>&2
        exit /b 1
    )
)
if defined left (
    echo The service is gone. Some files in "%to%" are in use, by WinDivert's driver or by programs
    echo that have the hook, which does nothing any more. Delete the folder after the next restart.
    exit /b 0
)
if exist "%to%\" echo "%to%" stays: it has files that are not sessionip's.
if defined purge (echo sessionip is removed.) else (echo sessionip is removed; "%data%" stays.)
exit /b 0
